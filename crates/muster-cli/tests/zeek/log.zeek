# A node of a cluster: a worker writes its log when the logger is there.
@load frameworks/cluster/backend/broker

event Cluster::node_up(name: string, id: string)
	{
	print fmt("node_up %s", name);
	if ( name == "logger-1" && Cluster::node == "worker-1" )
		Everything::write_all();
	flush_all();
	}

event Cluster::node_down(name: string, id: string)
	{
	print fmt("node_down %s", name);
	flush_all();
	}
