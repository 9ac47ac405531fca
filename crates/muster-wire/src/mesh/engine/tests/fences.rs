//! Endpoints that are fenced: what one endpoint does at once, and what ends it.

use super::*;

/// Relays in a ring, all of them up everywhere: 1, 2, 3 and 4.
fn ring() -> (Vec<Mesh>, u64) {
    let mut meshes: Vec<Mesh> = (1..=4).map(|number| mesh(number, "", 1)).collect();
    for (a, b) in [(0, 1), (1, 2), (2, 3), (3, 0)] {
        link(&mut meshes, a, b, 0);
    }
    let mut now = 0;
    settle(&mut meshes, &mut now, 20 * SECOND);
    assert!(meshes.iter().all(|mesh| mesh.up().len() == 3));
    (meshes, 20 * SECOND)
}

/// Where messages of one endpoint for another go on from a third.
fn hops(mesh: &mut Mesh, origin: u8, to: u8) -> Vec<EndpointId> {
    let routes = mesh.routes();
    let (Some(origin), Some(_)) = (routes.slot(id(origin)), routes.slot(id(to))) else {
        return Vec::new();
    };
    let topic = crate::mesh::topic_of(id(to));
    routes.next_hops(origin, &routes.wanted(topic.as_bytes()), None)
}

fn decisions(mesh: &mut Mesh) -> Vec<Decision> {
    std::iter::from_fn(|| mesh.poll()).collect()
}

/// The neighbours that an endpoint has just announced to others, by whole records or changes that it has lost.
fn loses(decisions: &[Decision], lost: EndpointId) -> bool {
    decisions.iter().any(|decision| match decision {
        Decision::Send { frame, .. } => match &**frame {
            MeshFrame::Records { records, .. } => records.iter().any(
                |record| matches!(record, Record::Changes(it, _) if it.removed.contains(&lost)),
            ),
            _ => false,
        },
        _ => false,
    })
}

#[test]
fn a_fenced_neighbour_is_lost_and_announced_as_lost_at_once() {
    let (mut meshes, now) = ring();
    // Of all origins some tree leads from the first over the second.
    assert_eq!(hops(&mut meshes[0], 1, 2), [id(2)]);
    meshes[0].fence(id(2), Mono(now));
    let decided = decisions(&mut meshes[0]);
    assert!(decided.contains(&Decision::NodeDown(id(2))), "{decided:?}");
    assert!(loses(&decided, id(2)), "{decided:?}");
    assert!(hops(&mut meshes[0], 1, 2).is_empty());
    assert_eq!(hops(&mut meshes[0], 1, 3), [id(4)]);
    assert!(!meshes[0].up().contains(&id(2)) && meshes[0].up().contains(&id(3)));
    // What comes from it over the old link is nothing.
    let before = meshes[0].counts().not_neighbour;
    meshes[0].receive(id(2), MeshFrame::Digest(1), Mono(now));
    assert_eq!(meshes[0].counts().not_neighbour, before + 1);
}

/// Its neighbours have not been told, and announce it as before.
#[test]
fn nothing_is_led_through_one_that_is_fenced_elsewhere() {
    let (mut meshes, mut now) = ring();
    meshes[3].fence(id(2), Mono(now));
    assert!(decisions(&mut meshes[3]).contains(&Decision::NodeDown(id(2))));
    for to in [1, 3] {
        assert_eq!(hops(&mut meshes[3], 4, to), [id(to)]);
    }
    assert!(hops(&mut meshes[3], 4, 2).is_empty());
    // Nor with the trees that stood before: the first and the third are reached directly.
    for origin in [1, 3] {
        assert_eq!(hops(&mut meshes[3], origin, 4 - origin), [id(4 - origin)]);
    }
    // If nobody gives it up, it is alive, and a leaf: messages for it go to one of its neighbours, and no others.
    let told = settle(&mut meshes, &mut now, 20 * SECOND + 3 * SECOND - 1);
    assert!(!told.iter().any(|(by, _)| *by == id(4)), "{told:?}");
    settle(&mut meshes, &mut now, 30 * SECOND);
    assert!(meshes[3].up().contains(&id(2)));
    assert_eq!(hops(&mut meshes[3], 4, 2).len(), 1);
    assert!(meshes[3].is_fenced(id(2)));
}

#[test]
fn whoever_gives_a_sign_of_life_is_a_leaf_until_it_is_admitted() {
    let (mut meshes, mut now) = ring();
    for at in [0, 2, 3] {
        meshes[at].fence(id(2), Mono(now));
    }
    for peer in [1, 3] {
        meshes[1].peer_down(id(peer), Mono(now));
    }
    settle(&mut meshes, &mut now, 21 * SECOND);
    assert!(meshes.iter().all(|mesh| !mesh.up().contains(&id(2))));
    // It finds its way back to one of them, and all may speak with it.
    now = 21 * SECOND;
    link(&mut meshes, 0, 1, now);
    link(&mut meshes, 1, 2, now);
    settle(&mut meshes, &mut now, 30 * SECOND);
    for mesh in &meshes {
        assert_eq!(mesh.up().len(), 3, "{}", mesh.id());
    }
    assert_eq!(hops(&mut meshes[3], 4, 2).len(), 1);
    // The first and the third have the fourth between them, and this one.
    assert_eq!(hops(&mut meshes[0], 1, 3), [id(4)]);
    assert_eq!(hops(&mut meshes[2], 3, 1), [id(4)]);
    now = 30 * SECOND;
    meshes[3].peer_down(id(1), Mono(now));
    meshes[0].peer_down(id(4), Mono(now));
    settle(&mut meshes, &mut now, 40 * SECOND);
    assert!(hops(&mut meshes[0], 1, 3).is_empty());
    now = 40 * SECOND;
    for at in [0, 2, 3] {
        meshes[at].unfence(id(2), Mono(now));
        assert!(!meshes[at].is_fenced(id(2)));
    }
    assert_eq!(hops(&mut meshes[0], 1, 3), [id(2)]);
    settle(&mut meshes, &mut now, 50 * SECOND);
    assert!(meshes.iter().all(|mesh| mesh.up().len() == 3));
}

#[test]
fn fences_of_strangers_are_kept_and_nobody_fences_itself() {
    let (mut meshes, mut now) = ring();
    let before = meshes[0].routes();
    meshes[0].fence(id(1), Mono(now));
    assert!(!meshes[0].is_fenced(id(1)));
    meshes[0].fence(id(5), Mono(now));
    assert!(meshes[0].is_fenced(id(5)) && Arc::ptr_eq(&before, &meshes[0].routes()));
    // It comes, with somebody behind it.
    now = 20 * SECOND;
    meshes.extend([mesh(5, "", 1), mesh(6, "", 1)]);
    link(&mut meshes, 0, 4, now);
    link(&mut meshes, 4, 5, now);
    settle(&mut meshes, &mut now, 40 * SECOND);
    assert!(meshes[0].up().contains(&id(5)) && !meshes[0].up().contains(&id(6)));
    assert_eq!(hops(&mut meshes[0], 1, 5), [id(5)]);
    // Of many fences the oldest is given up.
    now = 40 * SECOND;
    for number in 0..1024u16 {
        let [high, low] = number.to_be_bytes();
        let mut bytes = [7; 16];
        (bytes[0], bytes[1]) = (high, low);
        meshes[0].fence(EndpointId::from_random(bytes), Mono(now));
    }
    assert!(!meshes[0].is_fenced(id(5)));
    settle(&mut meshes, &mut now, 50 * SECOND);
    assert!(meshes[0].up().contains(&id(6)));
    assert!(meshes[0].sizes().pending <= 1024 + 6);
}
