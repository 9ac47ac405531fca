# A cluster with two proxies whose worker tells of hosts, services and software by Zeek's own scripts.
@load frameworks/cluster/backend/broker
@load policy/protocols/conn/known-hosts
@load policy/protocols/conn/known-services
@load policy/protocols/ssl/known-certs
@load base/frameworks/software

redef Known::host_tracking = ALL_HOSTS;
redef Known::service_tracking = ALL_HOSTS;
redef Known::cert_tracking = ALL_HOSTS;
redef Software::asset_tracking = ALL_HOSTS;

module Known;

global up: set[string];

function owner(kind: string, text: string, key: any)
	{
	print fmt("owner %s %s %s", kind, text, Cluster::hrw_topic(Cluster::proxy_pool, key));
	}

function tell(n: count)
	{
	local ts = double_to_time(1700000000.5 + n);
	local host = count_to_v4_addr(167772160 + n * 257);
	event Known::host_found([$ts=ts, $host=host]);
	event service_info_commit([$ts=ts, $host=host, $port_num=count_to_port(8000 + n, tcp), $port_proto=tcp,
	                           $service=set("HTTP", "SSL")]);
	Software::found([$orig_h=host, $orig_p=1/tcp, $resp_h=host, $resp_p=2/tcp],
	                [$ts=ts, $host=host, $host_p=8080/tcp, $software_type=Software::UNKNOWN,
	                 $unparsed_version=fmt("Apache/2.4.%d (Unix)", n)]);
	}

event run()
	{
	local n = 0;
	while ( n < 30 )
		{
		local text = sha1_hash(cat(n));
		local v4 = count_to_v4_addr(3232235520 + n * 77);
		local v6 = counts_to_addr(vector(n % 3 == 0 ? 0 : 536939960, 0, n % 2 == 0 ? 0 : n, n * 65537 + 1));
		owner("string", text, text);
		owner("count", cat(n * 7919), n * 7919);
		owner("int", cat(+15 - n), +15 - n);
		owner("double", fmt("%.17g", n * 0.37), n * 0.37);
		owner("addr", cat(v4), v4);
		owner("addr", cat(v6), v6);
		owner("subnet", cat(v4/(n + 1)), v4/(n + 1));
		owner("port", cat(count_to_port(n * 31, udp)), count_to_port(n * 31, udp));
		++n;
		}
	print "owners told";
	n = 0;
	while ( n < 100 )
		{
		tell(n);
		++n;
		}
	print "all told";
	flush_all();
	}

event Cluster::node_up(name: string, id: string) &priority=-10
	{
	print fmt("node_up %s", name);
	flush_all();
	add up[name];
	if ( Cluster::node == "worker-1" && "proxy-1" in up && "proxy-2" in up && "logger-1" in up && name != "manager" )
		event run();
	}
