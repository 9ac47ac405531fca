# Sends back what comes by WebSocket, and says what it was.
@load base/frameworks/cluster

module Test;

export {
	const websocket_port = 0/tcp &redef;

	global reals: event(v: vector of double);
	global times: event(v: vector of time);
	global texts: event(v: vector of string);
	global ints: event(i: vector of int, c: vector of count);
	global many: event(b: bool, d: double, t: time, iv: interval, s: string, a: addr, sn: subnet, p: port,
	                   strings: set[string], counts: table[string] of count);
	global own: event(kind: string);
	global echo: event(name: string, shown: string);
}

function answer(name: string, shown: string)
	{
	Cluster::publish("/out", echo, name, shown);
	}

event Test::reals(v: vector of double)
	{
	local shown = "";
	for ( i in v )
		shown += fmt("%s%.17g", i == 0 ? "" : " ", v[i]);
	answer("reals", shown);
	Cluster::publish("/out", reals, v);
	}

event Test::times(v: vector of time)
	{
	local shown = "";
	for ( i in v )
		shown += fmt("%s%.9f", i == 0 ? "" : " ", time_to_double(v[i]));
	answer("times", shown);
	Cluster::publish("/out", times, v);
	}

event Test::texts(v: vector of string)
	{
	local shown = "";
	for ( i in v )
		shown += fmt("%s%s", i == 0 ? "" : " ", string_to_ascii_hex(v[i]));
	answer("texts", shown);
	Cluster::publish("/out", texts, v);
	}

event Test::ints(i: vector of int, c: vector of count)
	{
	answer("ints", fmt("%s %s", i, c));
	Cluster::publish("/out", ints, i, c);
	}

event Test::many(b: bool, d: double, t: time, iv: interval, s: string, a: addr, sn: subnet, p: port,
                 strings: set[string], counts: table[string] of count)
	{
	Cluster::publish("/out", many, b, d, t, iv, s, a, sn, p, strings, counts);
	}

# What JSON has no numbers or characters for.
event Test::own(kind: string)
	{
	local inf = 1e308 * 10;
	if ( kind == "nan" )
		Cluster::publish("/out", reals, vector(inf - inf));
	else if ( kind == "inf" )
		Cluster::publish("/out", reals, vector(inf, -inf, 1e20, 0.1, 1e-9));
	else if ( kind == "texts" )
		Cluster::publish("/out", texts, vector("\x0b", "\x01\x1f\x7f", "\xff\xfe", "caf\xc3\xa9", "\"\\\n"));
	else if ( kind == "times" )
		Cluster::publish("/out", times, vector(double_to_time(1700000000.123456), double_to_time(0.0), double_to_time(-0.5)));
	}

event Cluster::websocket_client_added(endpoint: Cluster::EndpointInfo, subscriptions: string_vec)
	{
	print fmt("client %s %s", endpoint$application_name, subscriptions);
	flush_all();
	}

event zeek_init() &priority=-100
	{
	Cluster::subscribe("/in");
	if ( ! Cluster::listen_websocket([$listen_addr=127.0.0.1, $listen_port=websocket_port]) )
		terminate();
	print "listening";
	flush_all();
	}
