# A peer of several endpoints: answers each number that it hears, to whoever wants the answers.
@load base/frameworks/broker

module Test;

export {
	# The ports to dial, with commas between them.
	const dial = "" &redef;

	global number: event(n: count);
	global answer: event(n: count);
	global stop: event();
}

event zeek_init()
	{
	Broker::subscribe("/muster/zeek");
	for ( _, text in split_string(dial, /,/) )
		Broker::peer("127.0.0.1", count_to_port(to_count(text), tcp), 1sec);
	}

event Test::number(n: count)
	{
	print fmt("heard %d", n);
	flush_all();
	Broker::publish("/muster/up", Test::answer, n);
	}

event Test::stop()
	{
	terminate();
	}
