//! The records that are delivered.

use std::net::AddrParseError;

use muster_data::{Address, EnumValue, Port, Record, Timespan, Timestamp};

/// A record shaped like a row of Zeek's conn.log.
#[derive(Record, Clone)]
#[record(name = "Bench::conn")]
#[allow(missing_docs, reason = "the columns of conn.log")]
pub struct Conn {
    pub ts: Timestamp,
    pub uid: String,
    pub orig_h: Address,
    pub orig_p: Port,
    pub resp_h: Address,
    pub resp_p: Port,
    pub proto: EnumValue,
    pub service: Option<String>,
    pub duration: Timespan,
    pub orig_bytes: u64,
    pub resp_bytes: u64,
    pub conn_state: String,
    pub local_orig: bool,
    pub local_resp: bool,
    pub missed_bytes: u64,
    pub history: String,
    pub orig_pkts: u64,
    pub orig_ip_bytes: u64,
    pub resp_pkts: u64,
    pub resp_ip_bytes: u64,
}

impl Conn {
    /// Returns a typical row.
    ///
    /// # Errors
    ///
    /// Never fails, as its addresses are valid.
    pub fn sample() -> Result<Self, AddrParseError> {
        let address = |text: &str| text.parse::<std::net::IpAddr>().map(Address::from);
        Ok(Self {
            ts: Timestamp::from_secs(1_521_911_720),
            uid: "CmC9kY1X0u9nP78KZc".to_owned(),
            orig_h: address("10.164.94.120")?,
            orig_p: Port::tcp(39_611),
            resp_h: address("10.47.3.200")?,
            resp_p: Port::tcp(443),
            proto: EnumValue::new("tcp"),
            service: Some("ssl".to_owned()),
            duration: Timespan::from_millis(1_234),
            orig_bytes: 512,
            resp_bytes: 4_096,
            conn_state: "SF".to_owned(),
            local_orig: true,
            local_resp: true,
            missed_bytes: 0,
            history: "ShADadFf".to_owned(),
            orig_pkts: 9,
            orig_ip_bytes: 1_000,
            resp_pkts: 8,
            resp_ip_bytes: 4_600,
        })
    }
}

/// A record of 128 bytes: what remains of a connection if only its addresses, its service and its
/// counters are kept.
#[derive(Record, Clone)]
#[record(name = "Bench::flow")]
#[allow(missing_docs, reason = "some columns of conn.log")]
pub struct Flow {
    pub ts: Timestamp,
    pub uid: String,
    pub orig_h: Address,
    pub orig_p: Port,
    pub resp_h: Address,
    pub resp_p: Port,
    pub service: String,
    pub orig_bytes: u64,
    pub resp_bytes: u64,
    pub history: String,
    pub orig_pkts: u64,
    pub resp_pkts: u64,
}

impl Flow {
    /// Returns a typical row.
    ///
    /// # Errors
    ///
    /// Never fails, as its addresses are valid.
    pub fn sample() -> Result<Self, AddrParseError> {
        let conn = Conn::sample()?;
        Ok(Self {
            ts: conn.ts,
            uid: conn.uid,
            orig_h: conn.orig_h,
            orig_p: conn.orig_p,
            resp_h: conn.resp_h,
            resp_p: conn.resp_p,
            service: "krb_tcp".to_owned(),
            orig_bytes: conn.orig_bytes,
            resp_bytes: conn.resp_bytes,
            history: conn.history,
            orig_pkts: conn.orig_pkts,
            resp_pkts: conn.resp_pkts,
        })
    }
}
