# A store that is shared with Muster: as its master, or as a clone.

module Test;

export {
	## What this side has: "master" or "clone".
	const kind = "master" &redef;
}

global store: opaque of Broker::Store;

event Test::look()
	{
	when ( local found = Broker::get(Test::store, "from-muster") )
		{
		if ( found$status == Broker::SUCCESS )
			{
			print fmt("got %s", found$result as count);
			flush_all();
			when ( local both = Broker::put_unique(Test::store, "both", 1) )
				{
				print fmt("both %s", both$result as bool);
				flush_all();
				}
			timeout 10sec
				{
				print "both timeout";
				flush_all();
				}
			when ( local fresh = Broker::put_unique(Test::store, "fresh", 2) )
				{
				print fmt("fresh %s", fresh$result as bool);
				flush_all();
				Broker::increment(Test::store, "both", 5);
				Broker::insert_into_set(Test::store, "set", 10.0.0.1);
				Broker::erase(Test::store, "from-muster");
				Broker::put(Test::store, "done", 3);
				}
			timeout 10sec
				{
				print "fresh timeout";
				flush_all();
				}
			}
		else
			schedule 20msec { Test::look() };
		}
	timeout 5sec
		{
		schedule 20msec { Test::look() };
		}
	}

event zeek_init()
	{
	if ( kind == "master" )
		{
		store = Broker::create_master("muster/test");
		Broker::put(store, "early", 1);
		}
	else
		store = Broker::create_clone("muster/test");
	print fmt("listening %s", port_to_count(Broker::listen("127.0.0.1", 0/tcp)));
	flush_all();
	}

event Broker::peer_added(endpoint: Broker::EndpointInfo, msg: string)
	{
	event Test::look();
	}
