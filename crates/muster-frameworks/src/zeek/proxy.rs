//! What a Zeek proxy passes on, and what this one does not do.

use muster_cluster::node::{Context, CounterSpec, Declarations, Framework, Severity, Site};
use muster_cluster::{DEFAULT_PREFIX, Role};

use muster_data::{ConvertError, Data, Type};
use muster_wire::zeek::EventRef;

use crate::checked::Checked;

/// Events that a proxy hears from one of Zeek's nodes and publishes to all workers, as they are: workers
/// do not hear one another, and the manager spares itself the fan-out.
const PASSED_ON: [&str; 5] = [
    // From the manager: another indicator to look out for.
    "Intel::insert_indicator",
    // From a worker: an FTP data connection is to come, which another worker may see.
    "sync_add_expected_data",
    "sync_remove_expected_data",
    // From a worker: so is a file over IRC.
    "dcc_transfer_add",
    "dcc_transfer_remove",
];

/// Passes on to the workers what Zeek's proxies pass on. When the node starts, it tells the operator which part of a
/// Zeek proxy's work it does not do.
///
/// A manager passes events on as well: Zeek's workers turn to it if no proxy is alive. Counts: `passed_on`.
#[derive(Debug)]
pub struct ZeekProxy {
    is_proxy: bool,
}

impl Framework for ZeekProxy {
    const NAME: &'static str = "zeek_proxy";

    const COUNTERS: &'static [CounterSpec] = &[CounterSpec::new(
        "passed_on",
        "Events of Zeek's nodes that were passed on to the workers.",
    )];

    fn create(site: &Site<'_>) -> Option<Self> {
        // Where topics begin otherwise, no node of Zeek's can be among the peers.
        let may_have_zeek = site.layout.topics().prefix() == DEFAULT_PREFIX;
        let is_proxy = site.owns_keys();
        (may_have_zeek && (is_proxy || site.is(Role::Manager))).then_some(Self { is_proxy })
    }

    fn declare(&self, declarations: &mut Declarations<Self>) {
        for name in PASSED_ON {
            declarations.on_dynamic(name, Type::Any, 0, |_, event, cx| pass_on(event, cx));
        }
    }

    fn init(&mut self, cx: &mut Context<'_>) {
        if self.is_proxy {
            let text = "to Zeek's nodes this is a proxy that handles known_host_add, \
                known_service_add, known_cert_add and Software::new, and passes on \
                Intel::insert_indicator, sync_add_expected_data, \
                sync_remove_expected_data, dcc_transfer_add and \
                dcc_transfer_remove; it does not handle \
                Config::cluster_set_option, Notice::suppression_batch_internal, notices on software \
                (Software::version_change, vulnerable versions), data stores, tables with \
                &publish_on_change, control and management requests, events of scripts of one's own \
                (what arrives of these is counted as unhandled, by name)";
            cx.report(Severity::Info, text);
        }
    }
}

fn pass_on(event: &EventRef<'_>, cx: &mut Context<'_>) -> Result<(), ConvertError> {
    let arguments = event.arguments().to::<Vec<Data>>()?;
    let workers = cx.topic_for_role(Role::Worker);
    cx.publish_dynamic(&workers, event.name(), &arguments)
        .checked(cx);
    cx.count("passed_on", 1);
    Ok(())
}
