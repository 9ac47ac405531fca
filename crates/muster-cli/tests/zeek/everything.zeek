# A log with a column of every type, and 10,000 records that are the same whoever writes them.
@load base/frameworks/logging
@load base/frameworks/logging/writers/ascii

module Everything;

export {
	redef enum Log::ID += { LOG };

	type Color: enum { RED, GREEN, BLUE };

	type Id: record {
		orig_h: addr &log;
		orig_p: port &log;
	};

	type Info: record {
		number: count &log;
		b: bool &log;
		i: int &log;
		d: double &log;
		t: time &log;
		iv: interval &log;
		s: string &log;
		e: Color &log;
		id: Id &log;
		p: port &log;
		a: addr &log;
		sn: subnet &log;
		f: function(n: count): Color &log &optional;
		unset: string &log &optional;
		not_logged: string &default="";
		strings: set[string] &log;
		addrs: set[addr] &log;
		ports: set[port] &log;
		subnets: set[subnet] &log;
		numbers: set[int] &log;
		colors: set[Color] &log;
		doubles: vector of double &log;
		times: vector of time &log;
		intervals: vector of interval &log;
		texts: vector of string &log;
		bools: vector of bool &log;
		holes: vector of count &log;
		unset_set: set[count] &log &optional;
		unset_vector: vector of string &log &optional;
	};

	const records = 10000 &redef;
	global write_all: function();
}

event zeek_init()
	{
	Log::create_stream(LOG, [$columns=Info, $path="everything"]);
	}

# Texts that are written in a way of their own, or nearly are.
const texts: vector of string = vector("", "-", "(empty)", "#", "#close", ",", "a,b", "a\tb", "line\nline\r", "\\",
    "\\x41", "\x00", "\x7f", "caf\xc3\xa9", "\xf0\x9f\x98\x80", "\xff\xfe", "\xc3", "\xe2\x82", "\xed\xa0\x80",
    "\xc0\xaf", "\xf4\x90\x80\x80", "\"quoted\"", "{\"json\": [1]}", "\xc2\x85", "\xe2\x80\xa8", "\xef\xbb\xbf",
    "-,-", "(empty),", " ", "  spaces  ", "\x1b[0m", "\x08\x0c", "/", "<>&'", "\xef\xbf\xbd", "\xef\xbf\xbe");

const doubles: vector of double = vector(0.0, -0.0, 1.0, -1.0, 0.1, 1e-7, -1e-7, 5e-7, 1.5e-6, 0.9999999, 1e6, 123456.7,
    1e9, 2147483647.0, 2147483648.0, 3000000000.5, 1e15, 1e16, 1.5e17, 9e18, 1e20, -1e20, 1e21, 1.5e21, 1e22, 1e100,
    1e300, 1e-300, 1.7976931348623157e308, 0.0078125, 0.0234375, 3.0000000001, 2.9999999999);

const addrs: vector of addr = vector(0.0.0.0, 10.1.2.3, 255.255.255.255, [::], [::1], [::ffff:1.2.3.4], [::1.2.3.4],
    [2001:db8::1], [2001:db8:0:0:1:0:0:1], [fe80::1234], [1:0:0:2:0:0:0:3], [64:ff9b::192.0.2.1], [2001:db8::1:0:0:0]);

const subnets: vector of subnet = vector(0.0.0.0/0, 10.0.0.0/8, 192.0.2.1/32, [::]/0, [2001:db8::]/32, [::1]/128,
    [::ffff:1.2.3.0]/120, [fe80::]/10);

const ports: vector of port = vector(0/tcp, 80/tcp, 53/udp, 8/icmp, 65535/tcp, 1/unknown);

function color(n: count): Color
	{
	switch ( n % 3 ) {
	case 0: return RED;
	case 1: return GREEN;
	default: return BLUE;
	}
	}

function info(n: count): Info
	{
	# Twenty bytes of anything.
	local bytes = hexstr_to_bytestring(sha1_hash(cat(n)));
	local text = n % 3 == 0 ? bytes : texts[n % |texts|];
	local small = n * 0.0000001;
	local r = Info($number=n, $b=n % 2 == 0, $i=n % 7 == 0 ? -9223372036854775807 - 1 : +0 - n,
	               $d=n % 2 == 0 ? doubles[n % |doubles|] : n * 1.1e-5 * (n % 4 - 1.0),
	               $t=double_to_time(n % 11 == 0 ? small : 1700000000.0 + n * 0.1234567),
	               $iv=double_to_interval(n % 5 == 0 ? -small * 3 : n * 0.7654321),
	               $s=text, $e=color(n), $id=Id($orig_h=addrs[n % |addrs|], $orig_p=ports[n % |ports|]),
	               $p=count_to_port(n % 65536, n % 2 == 0 ? udp : tcp), $a=count_to_v4_addr(n * 429496),
	               $sn=subnets[n % |subnets|], $strings=set(), $addrs=set(), $ports=set(), $subnets=set(),
	               $numbers=set(), $colors=set(), $doubles=vector(), $times=vector(), $intervals=vector(),
	               $texts=vector(), $bools=vector(), $holes=vector());
	if ( n % 10 == 0 )
		r$sn = r$a / (n % 33);

	if ( n % 4 == 0 )
		{
		r$f = color;
		r$unset = text;
		r$unset_set = set(n);
		r$unset_vector = vector(text);
		}

	local k = n % 6;
	while ( k > 0 )
		{
		add r$strings[texts[(n + k) % |texts|]];
		add r$addrs[addrs[(n * k) % |addrs|]];
		add r$ports[ports[(n + k) % |ports|]];
		add r$subnets[subnets[(n + k) % |subnets|]];
		add r$numbers[+0 - n * k];
		add r$colors[color(n + k)];
		r$doubles += doubles[(n * k) % |doubles|];
		r$times += double_to_time(1600000000.0 + small * k);
		r$intervals += double_to_interval(small - k);
		r$texts += n % 2 == 0 ? texts[(n * k) % |texts|] : bytes[:k];
		r$bools += k % 2 == 0;
		r$holes[k] = n;
		--k;
		}
	return r;
	}

function write_all()
	{
	local n = 0;
	while ( n < records )
		{
		Log::write(LOG, info(n));
		++n;
		}
	}
