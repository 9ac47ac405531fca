//! `muster stores move` and `muster stores adopt`: what is ordered, and what becomes of it.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use muster_agent::{ClientError, RefusalKind};
use muster_gateway::status::{IN, StoreGroupStatus, StoresStatus};
use tokio::time::Instant;

use super::Order;
use super::table::places;
use crate::cluster::agent_client::Target;
use crate::output::{Failure, REFUSED, USAGE, say};

/// How often it is looked whether it is done.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What a store's primary does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Moves,
    /// The store begins with what the node has. The number of the decision with which its history began so far.
    Begins(u64),
}

pub(super) async fn move_to(order: &Order) -> Result<ExitCode> {
    let target = Target::of(&order.layout).await?;
    let before = target.stores().await?;
    carry_out(&target, order, Way::Moves, &before).await
}

pub(super) async fn adopt(order: &Order, is_confirmed: bool) -> Result<ExitCode> {
    let target = Target::of(&order.layout).await?;
    let before = target.stores().await?;
    let store = before.stores.iter().find(|it| it.store == order.store);
    if !is_confirmed {
        return Err(not_confirmed(store, order).into());
    }
    let began = store.map_or(0, |store| store.began);
    carry_out(&target, order, Way::Begins(began), &before).await
}

/// What there is to know before it is done, if anything is to be done.
fn not_confirmed(store: Option<&StoreGroupStatus>, order: &Order) -> Failure {
    let Order {
        store: name, node, ..
    } = order;
    let Some(store) = store else {
        return Failure::new(format!(
            "there is no store {name} about which coordinators have decided: no node has opened it"
        ));
    };
    if let Some(primary) = &store.primary {
        let primary = &primary.node;
        let message = format!(
            "store {name} does not wait: its primary is on {primary}, and there is nothing to adopt"
        );
        return Failure::new(message).code(REFUSED);
    }
    let waits = match &store.in_sync[..] {
        [] => format!("Store {name} has no copy in sync."),
        copies => format!(
            "Store {name} waits for its last copies, on {}.",
            places(copies)
        ),
    };
    let has = if store.persistent {
        format!("what node {node} has on disk: it may be old, or nothing")
    } else {
        "nothing, as its copies are in memory".to_owned()
    };
    say(&format!(
        "{waits}\n\
        It would begin with {has}.\n\
        What only the last copies have is lost then, also if their nodes come back.\n\
        It is for nodes that are gone for good: if they can come back, wait for them."
    ));
    Failure::new(format!("nothing was done with store {name}"))
        .hint("if that is to be lost: --lose-what-others-have")
        .code(USAGE)
}

impl Way {
    async fn order(self, target: &Target, order: &Order) -> Result<(), ClientError> {
        let Order { store, node, .. } = order;
        let client = target.client();
        match self {
            Self::Moves => client.move_store(store, node).await,
            Self::Begins(_) => {
                client
                    .adopt_store_and_lose_what_others_have(store, node)
                    .await
            }
        }
    }
}

/// Orders it, and waits until it is done.
async fn carry_out(
    target: &Target,
    order: &Order,
    way: Way,
    before: &StoresStatus,
) -> Result<ExitCode> {
    let deadline = Instant::now() + order.timeout;
    let ordered = way.order(target, order).await;
    ordered.map_err(|error| target.failure(&error))?;
    let mut term = before.term;
    let mut said = None;
    loop {
        let status = target.stores().await?;
        let step = step(&status, order, way);
        let progress = match step {
            Step::Done(text) => {
                say(&text);
                return Ok(ExitCode::SUCCESS);
            }
            Step::Over(text) => return Err(Failure::new(text).into()),
            Step::Goes(text) => text,
        };
        if said.as_ref() != Some(&progress) {
            say(&progress);
            said = Some(progress.clone());
        }
        if Instant::now() >= deadline {
            let limit = order.timeout;
            return Err(
                Failure::new(format!("not done within {limit:?}: {progress}"))
                    .hint("it goes on if it can: `muster stores` says when it is done")
                    .into(),
            );
        }
        // Whoever leads now has not heard the order.
        if status.term > term && status.leader.is_some() {
            match way.order(target, order).await {
                Ok(()) => term = status.term,
                Err(ClientError::Refused(refusal)) if refusal.kind == RefusalKind::Busy => {}
                Err(error) => return Err(target.failure(&error).into()),
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// How far it is.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Done(String),
    Goes(String),
    /// It will not be done any more.
    Over(String),
}

fn step(status: &StoresStatus, order: &Order, way: Way) -> Step {
    let Order {
        store: name, node, ..
    } = order;
    let Some(store) = status.stores.iter().find(|it| it.store == *name) else {
        return Step::Goes(format!(
            "store {name}: box {} has not heard of it",
            status.box_name
        ));
    };
    let has_begun = match way {
        Way::Moves => true,
        Way::Begins(before) => store.began > before,
    };
    let is_primary = |it: &StoreGroupStatus| it.primary.as_ref().is_some_and(|it| it.node == *node);
    if is_primary(store) && has_begun {
        return Step::Done(match way {
            Way::Moves => format!("store {name}: its primary is on {node}"),
            Way::Begins(_) => {
                format!("store {name} begins with what {node} has: its primary is there")
            }
        });
    }
    let known = store.candidates.iter().chain(&store.in_sync);
    let mut known = known.filter(|it| it.node == *node);
    if !known.any(|it| it.state == IN) {
        return Step::Over(format!("store {name}: node {node} is out by now"));
    }
    let has_copy = store.in_sync.iter().any(|it| it.node == *node);
    let joins = store.joining.as_ref().is_some_and(|it| it.node == *node);
    match (way, &store.primary) {
        (Way::Begins(_), Some(primary)) => Step::Over(format!(
            "store {name} goes on: a last copy is back, and its primary is on {}",
            primary.node
        )),
        (Way::Begins(_), None) => Step::Goes(format!("store {name}: ordered")),
        (Way::Moves, None) => Step::Over(format!(
            "store {name} waits for its last copies by now, on {}",
            places(&store.in_sync)
        )),
        (Way::Moves, Some(_)) if joins => {
            Step::Goes(format!("store {name}: {node} gets a copy first"))
        }
        (Way::Moves, Some(_)) if has_copy => Step::Goes(format!(
            "store {name}: {node} has a copy, and gets the primary"
        )),
        (Way::Moves, Some(primary)) => {
            Step::Goes(format!("store {name}: its primary is on {}", primary.node))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{status, store};
    use super::*;
    use crate::arguments::{LayoutOption, RemoteArguments};

    fn order(node: &str) -> Order {
        Order {
            store: "x".to_owned(),
            node: node.to_owned(),
            timeout: Duration::from_secs(1),
            layout: LayoutOption {
                file: None,
                remote: RemoteArguments {
                    server: None,
                    identity: None,
                    token_file: None,
                    authority: None,
                },
            },
        }
    }

    #[test]
    fn a_move_is_followed_until_it_is_done_or_over() {
        let to = |copies: &str, node: &str| {
            let status = status(&[store("x", copies)]);
            step(&status, &order(node), Way::Moves)
        };
        let goes = |text: &str| Step::Goes(format!("store x: {text}"));
        let both = "*data-1@a data-2@b";
        assert_eq!(
            to(both, "data-1"),
            Step::Done("store x: its primary is on data-1".to_owned())
        );
        let gets = goes("data-2 has a copy, and gets the primary");
        assert_eq!(to(both, "data-2"), gets);
        assert_eq!(
            to("*data-1@a +data-2@b", "data-2"),
            goes("data-2 gets a copy first")
        );
        assert_eq!(to("*data-1@a", "data-2"), goes("its primary is on data-1"));
        assert_eq!(
            to(both, "data-3"),
            Step::Over("store x: node data-3 is out by now".to_owned())
        );
        assert_eq!(
            to("data-1@a! data-2@b!", "data-2"),
            Step::Over(
                "store x waits for its last copies by now, on data-1 (box a), data-2 (box b)"
                    .to_owned()
            )
        );
        let none = step(&status(&[]), &order("data-1"), Way::Moves);
        assert_eq!(none, goes("box a has not heard of it"));
    }

    #[test]
    fn an_adoption_is_done_when_the_store_has_begun_anew() {
        let at = |copies: &str, began: u64| {
            let mut store = store("x", copies);
            store.began = began;
            step(&status(&[store]), &order("data-2"), Way::Begins(3))
        };
        assert_eq!(
            at("data-1@a!", 3),
            Step::Goes("store x: ordered".to_owned())
        );
        assert_eq!(
            at("*data-2@b", 9),
            Step::Done("store x begins with what data-2 has: its primary is there".to_owned())
        );
        // The last copy was there first.
        let over = "store x goes on: a last copy is back, and its primary is on data-1";
        assert_eq!(at("*data-1@a", 3), Step::Over(over.to_owned()));
    }

    #[test]
    fn what_is_not_confirmed_is_not_done() {
        let refused = |copies: Option<&str>| {
            let store = copies.map(|copies| store("x", copies));
            let failure = not_confirmed(store.as_ref(), &order("data-2"));
            (failure.code, failure.message)
        };
        let (code, message) = refused(Some("data-1@a!"));
        assert_eq!((code, &*message), (USAGE, "nothing was done with store x"));
        assert_eq!(refused(Some("")).0, USAGE);
        let (code, message) = refused(Some("*data-1@a"));
        assert_eq!(code, REFUSED);
        assert!(message.contains("there is nothing to adopt"), "{message}");
        let (code, message) = refused(None);
        assert_eq!(code, 1);
        assert!(message.contains("no node has opened it"), "{message}");
    }
}
