# Sends an event with arguments of many types to whoever peers, and sends what it receives back.
@load base/frameworks/broker

module Test;

export {
	type Color: enum { RED, GREEN };
	type Inner: record {
		name: string;
		number: count &optional;
		list: vector of double &default=vector();
	};

	# The port to dial; without it, Zeek listens.
	const dial = 0/tcp &redef;

	global typed: event(b: bool, i: int, c: count, d: double, t: time, iv: interval, s: string, a: addr,
	                    a6: addr, sn: subnet, sn6: subnet, p: port, e: Color, strings: set[string],
	                    pairs: set[addr, port], counts: table[string] of count,
	                    grid: table[count, string] of vector of int, inner: Inner, inners: vector of Inner,
	                    pat: pattern, nothing: vector of string, none: set[count]);
	global echo: event(b: bool, i: int, c: count, d: double, t: time, iv: interval, s: string, a: addr,
	                   a6: addr, sn: subnet, sn6: subnet, p: port, e: Color, strings: set[string],
	                   pairs: set[addr, port], counts: table[string] of count,
	                   grid: table[count, string] of vector of int, inner: Inner, inners: vector of Inner,
	                   pat: pattern, nothing: vector of string, none: set[count]);
	global stop: event();
}

event zeek_init()
	{
	Broker::subscribe("/muster/zeek");
	if ( dial != 0/tcp )
		Broker::peer("127.0.0.1", dial, 1sec);
	else
		print fmt("listening %s", port_to_count(Broker::listen("127.0.0.1", 0/tcp)));
	flush_all();
	}

event Broker::peer_added(endpoint: Broker::EndpointInfo, msg: string)
	{
	print fmt("peer_added %s", endpoint$id);
	flush_all();
	local inner = Inner($name="inner");
	local more = Inner($name="more", $number=5, $list=vector(0.5, -1e300));
	Broker::publish("/muster/test", Test::typed, T, -9223372036854775807, 18446744073709551615, 0.1,
	                double_to_time(1700000000.25), -1.5sec, "text \xff\x00\" \xc3\xa9", 192.0.2.1, [2001:db8::1],
	                10.0.0.0/8, [2001:db8::]/32, 53/udp, GREEN, set("b", "a"),
	                set([192.0.2.1, 80/tcp], [[::1], 8/icmp]), table(["one"] = 1, ["two"] = 2),
	                table([1, "x"] = vector(+1, -2)), inner, vector(inner, more), /foo|bar/,
	                vector(), set());
	}

event Broker::peer_lost(endpoint: Broker::EndpointInfo, msg: string)
	{
	print fmt("peer_lost %s", endpoint$id);
	flush_all();
	}

event Test::typed(b: bool, i: int, c: count, d: double, t: time, iv: interval, s: string, a: addr,
                  a6: addr, sn: subnet, sn6: subnet, p: port, e: Color, strings: set[string],
                  pairs: set[addr, port], counts: table[string] of count,
                  grid: table[count, string] of vector of int, inner: Inner, inners: vector of Inner,
                  pat: pattern, nothing: vector of string, none: set[count])
	{
	print fmt("received %s %s %s %s %.6f %s %s %s %s %s %s %s %s %d %d %s %d %s %s", b, i, c, d,
	          time_to_double(t), iv, string_to_ascii_hex(s), a, a6, sn, sn6, p, e, |strings|, |pairs|,
	          counts["many"], grid[7, "seven"][0], inner, pat == "foobar");
	flush_all();
	Broker::publish("/muster/test", Test::echo, b, i, c, d, t, iv, s, a, a6, sn, sn6, p, e, strings, pairs,
	                counts, grid, inner, inners, pat, nothing, none);
	}

event Test::stop()
	{
	terminate();
	}
