# A logger with the scripts of some of Zeek's streams.
@load frameworks/cluster/backend/broker
@load policy/protocols/conn/known-hosts
@load policy/protocols/conn/known-services

redef Log::default_rotation_interval = 0sec;

event Cluster::node_up(name: string, id: string)
	{
	print fmt("node_up %s", name);
	flush_all();
	}

# Files are written when they are full, or asked for.
event flush_logs()
	{
	Log::flush(Known::HOSTS_LOG);
	Log::flush(Known::SERVICES_LOG);
	Log::flush(Cluster::LOG);
	schedule 50msec { flush_logs() };
	}

event zeek_init()
	{
	event flush_logs();
	}
