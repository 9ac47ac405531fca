//! A proxy's work for Zeek's frameworks: what Zeek 9.1's workers and manager send to the proxies of a
//! cluster, by its event names and in the shapes of its records.
//!
//! | event | what becomes of it |
//! | --- | --- |
//! | `known_host_add` | [`KnownHosts`](crate::KnownHosts) |
//! | `known_service_add` | [`KnownServices`](crate::KnownServices) |
//! | `known_cert_add` | [`KnownCerts`] |
//! | `Software::new` | [`Software`], which also gets it from Muster's workers |
//! | `Intel::insert_indicator`, `sync_add_expected_data`, `sync_remove_expected_data`, `dcc_transfer_add`, `dcc_transfer_remove` | [`ZeekProxy`] passes them on to the workers |
//! | others, such as `Config::cluster_set_option` and `Notice::suppression_batch_internal` | counted as unhandled, by name |

mod browser;
mod events;
mod known_certs;
mod proxy;
mod software;
mod version;

pub use events::{KnownCertAdd, KnownHostAdd, KnownServiceAdd};
pub use known_certs::{KnownCert, KnownCerts};
pub use proxy::ZeekProxy;
pub use software::{
    KNOWN_SOFTWARE, Software, SoftwareInfo, SoftwareKey, SoftwareNew, SoftwareRecord, TRACKED,
};
pub use version::Version;
