//! ZeekControl's `networks.cfg`: a local network a line, and perhaps what it is.

use muster_data::Subnet;

use super::{Imported, Problem};

/// Reads a file.
pub(super) fn import(text: &str, imported: &mut Imported) -> Result<(), Problem> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (line, content) in (1..).zip(text.lines()) {
        let Some(network) = content.split_whitespace().next() else {
            continue;
        };
        if network.starts_with('#') {
            continue;
        }
        let subnet = parse(network).ok_or_else(|| {
            let message = format!("`{network}` is no network");
            Problem::new(
                line,
                message,
                "write 10.0.0.0/8 or 2001:db8::/32, and a text behind it",
            )
        })?;
        imported.network(subnet.to_string());
    }
    Ok(())
}

/// A network in CIDR notation; one of IPv6 may have brackets around its address, as in Zeek's scripts.
fn parse(text: &str) -> Option<Subnet> {
    let (address, width) = text.split_once('/')?;
    let bare = address
        .strip_prefix('[')
        .and_then(|address| address.strip_suffix(']'))
        .unwrap_or(address);
    format!("{bare}/{width}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::specs;

    fn networks(text: &str) -> Result<String, Problem> {
        let mut imported = Imported::default();
        import(text, &mut imported)?;
        Ok(imported.layout(&specs()).text)
    }

    #[test]
    fn networks_come_in_addition_to_private_address_space() {
        let text = "# ours\n\n10.0.0.0/8  Private\n198.51.100.0/24\tDMZ # x\n[2001:db8::]/32\n2001:db8::/32 again\n";
        let layout = networks(text).unwrap();
        let local = "local_nets = [\"10.0.0.0/8\", \"172.16.0.0/12\", \"192.168.0.0/16\", \"fc00::/7\", \
                     \"fe80::/10\", \"198.51.100.0/24\", \"2001:db8::/32\"]";
        assert_eq!(layout.matches(local).count(), 4, "{layout}");
        assert!(layout.contains("[known_hosts]"), "{layout}");
        // Without networks, the defaults are left to hold.
        assert_eq!(networks("# none\n").unwrap(), "layout = 1\n");
    }

    #[test]
    fn what_is_no_network_is_named() {
        for wrong in ["10.0.0.0", "10.0.0.0/33", "private", "fe80::%eth0/64"] {
            let problem = networks(&format!("10.0.0.0/8\n{wrong} x\n")).unwrap_err();
            assert_eq!(problem.line, 2);
            assert!(problem.message.contains(wrong), "{problem:?}");
        }
    }
}
