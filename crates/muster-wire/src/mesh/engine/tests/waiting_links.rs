//! Links that only make paths better, and are needed before they are announced.

use super::*;

/// Whether an endpoint reaches another one.
fn reaches(mesh: &mut Mesh, other: u8) -> bool {
    let routes = mesh.routes();
    let slot = routes.slot(id(other));
    slot.is_some_and(|slot| routes.reaches(slot))
}

/// A leaf has just joined by the last of three relays, and its links with the others wait to be announced. That relay is gone, as when its
/// machine is lost. Each of the others notices its own loss first, and has announced it before it hears that nobody else reaches
/// the leaf by the lost one: then a second passed until the leaf was in reach again.
#[test]
fn a_leaf_whose_only_known_relay_is_lost_is_in_reach_again_at_once() {
    let mut meshes: Vec<Mesh> = (1..=4).map(|number| mesh(number, "", 1)).collect();
    meshes[3] = Mesh::new(
        Identity {
            transit: false,
            ..meshes[3].identity.clone()
        },
        Config::default(),
    );
    let mut now = 0;
    for (a, b) in [(0, 1), (1, 2), (2, 0)] {
        link(&mut meshes, a, b, 0);
    }
    settle(&mut meshes, &mut now, 20 * SECOND);
    now = 20 * SECOND;
    link(&mut meshes, 2, 3, now);
    let joined = now + SECOND / 10;
    settle(&mut meshes, &mut now, joined);
    for hub in 0..2 {
        link(&mut meshes, hub, 3, joined);
    }
    now = joined + SECOND / 2;
    let lost = now;
    settle(&mut meshes, &mut now, lost);
    assert!(meshes[..2].iter().all(|mesh| mesh.up().contains(&id(4))));
    let waits = |mesh: &Mesh| !mesh.announced.contains(&id(4));
    assert!(meshes[..2].iter().all(waits), "the view has not settled");
    meshes.remove(2);
    now = lost;
    for mesh in &mut meshes {
        mesh.peer_down(id(3), Mono(lost));
    }
    settle(&mut meshes, &mut now, lost + SECOND / 10);
    for mesh in &mut meshes[..2] {
        assert!(reaches(mesh, 4));
    }
    assert!(reaches(&mut meshes[2], 1) && reaches(&mut meshes[2], 2));
}
