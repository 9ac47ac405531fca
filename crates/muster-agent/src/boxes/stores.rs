//! Stores, as all boxes know them, and what an operator wants of one: the box that leads decides it, whichever is asked.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_gateway::status::{StoresStatus, VERSION};
use tokio::time::Instant;

use super::Boxes;
use crate::api::{Refusal, RefusalKind};
use crate::client::{Client, ClientError};
use crate::coordination::StoreOrder;

/// How long a leader is looked for: less than whoever asks waits for the answer.
const LEADER: Duration = Duration::from_secs(6);

/// The pause before it is looked for again: while one is elected there is none.
const AGAIN: Duration = Duration::from_millis(300);

impl Boxes {
    /// What this box knows of stores.
    pub(crate) async fn own_stores(&self) -> StoresStatus {
        match self.mesh() {
            Some(place) => place.stores().await,
            None => StoresStatus {
                version: VERSION,
                box_name: self.own().to_owned(),
                ..StoresStatus::default()
            },
        }
    }

    /// What all boxes know of stores.
    pub(crate) async fn stores(&self) -> StoresStatus {
        let ask = async |client: &Client| client.stores().await;
        let leads = |answer: &StoresStatus| answer.leader.as_ref() == Some(&answer.box_name);
        let (own, others) = self.gather(self.own_stores(), ask, leads).await;
        let answers: Vec<StoresStatus> = std::iter::once(own).chain(others).collect();
        together(&answers)
    }

    /// Has the coordinator of this box carry out an order, for another box that takes it for the leader.
    pub(crate) async fn order_store(&self, order: StoreOrder) -> Result<(), Refusal> {
        let place = self.mesh();
        let place = place.ok_or_else(|| Refusal::conflict("the agent is not in the mesh"))?;
        place.order_store(order).await
    }

    /// Has the coordinator that leads carry out an order of somebody who has asked this box.
    pub(crate) async fn order_store_of_leader(
        &self,
        order: &StoreOrder,
        who: &str,
    ) -> Result<(), Refusal> {
        let voters = self.own_coordinators().await.voters;
        if voters.is_empty() {
            return Err(Refusal::conflict(
                "coordinators decide about stores, and this cluster has none: it is one box",
            ));
        }
        let deadline = Instant::now() + LEADER;
        loop {
            let ordered = tokio::time::timeout_at(deadline, self.order_once(order, who)).await;
            let ordered = ordered.unwrap_or_else(|_| {
                Err(Refusal::busy(
                    "no coordinator that leads was found in time: `muster coordinators` says who is away",
                ))
            });
            match ordered {
                Err(refusal)
                    if refusal.kind == RefusalKind::Busy && Instant::now() + AGAIN < deadline => {}
                ordered => return ordered,
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn order_once(&self, order: &StoreOrder, who: &str) -> Result<(), Refusal> {
        let leader = match self.own_coordinators().await.leader {
            Some(leader) => Some(leader),
            None => self.coordinators().await.leader,
        };
        let leader = leader.ok_or_else(|| {
            Refusal::busy(
                "nobody leads, and nothing is decided: `muster coordinators` says who is away",
            )
        })?;
        if leader == self.own() {
            return self.order_store(order.clone()).await;
        }
        let mut others = self.others();
        let (_, client) = others.find(|(name, _)| *name == leader).ok_or_else(|| {
            Refusal::conflict(format!(
                "box {leader} leads, and the layout of this box does not have it"
            ))
        })?;
        let answer = client.order_store_for(order, who).await;
        answer.map_err(|error| match error {
            ClientError::Refused(refusal) => refusal,
            error => Refusal::busy(format!("box {leader} leads, and does not answer: {error}")),
        })
    }
}

/// Puts together what several boxes know of stores, this one first: the answer of whoever decides, or else the latest one, with the earliest
/// time since when something is missing.
fn together(answers: &[StoresStatus]) -> StoresStatus {
    let weight = |status: &StoresStatus| {
        let leads = status.leader.as_ref() == Some(&status.box_name);
        (status.generation, leads, status.epoch)
    };
    let mut best: Option<&StoresStatus> = None;
    for status in answers {
        if best.is_none_or(|best| weight(status) > weight(best)) {
            best = Some(status);
        }
    }
    let mut best = best.cloned().unwrap_or_default();
    if best.leader.is_none() {
        let knowing = answers.iter().filter(|it| it.leader.is_some());
        if let Some(knows) = knowing.max_by_key(|it| it.term) {
            (best.term, best.leader) = (knows.term, knows.leader.clone());
        }
    }
    let mut known: BTreeMap<&str, (Option<u64>, Option<u64>)> = BTreeMap::new();
    for store in answers.iter().flat_map(|it| &it.stores) {
        let (since, waits) = known.entry(&store.store).or_default();
        *since = earlier(*since, store.since);
        *waits = earlier(*waits, store.waits_since);
    }
    for store in best.stores.iter_mut().filter(|it| !it.redundant) {
        let (since, waits) = known.get(&*store.store).copied().unwrap_or_default();
        store.since = since;
        store.waits_since = waits.filter(|_| store.waits());
    }
    best
}

fn earlier(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    one.into_iter().chain(other).min()
}

#[cfg(test)]
mod tests {
    use muster_gateway::status::{COMPLETE, SHORT, StoreGroupStatus, WAITING};

    use super::*;

    fn store(name: &str, state: &str, since: Option<u64>) -> StoreGroupStatus {
        StoreGroupStatus {
            store: name.to_owned(),
            state: state.to_owned(),
            redundant: state == COMPLETE,
            since,
            waits_since: since.filter(|_| state == WAITING),
            ..StoreGroupStatus::default()
        }
    }

    fn of(
        name: &str,
        leader: Option<&str>,
        epoch: u64,
        stores: &[StoreGroupStatus],
    ) -> StoresStatus {
        StoresStatus {
            box_name: name.to_owned(),
            leader: leader.map(str::to_owned),
            term: 3,
            epoch,
            stores: stores.to_vec(),
            ..StoresStatus::default()
        }
    }

    #[test]
    fn the_leader_s_answer_counts_and_the_earliest_time() {
        let short = |since| store("x", SHORT, since);
        let all = together(&[
            of("b", Some("a"), 9, &[short(Some(50))]),
            of("a", Some("a"), 8, &[short(None)]),
            of("c", Some("a"), 8, &[short(Some(40))]),
        ]);
        assert_eq!((all.box_name.as_str(), all.epoch), ("a", 8));
        assert_eq!(all.stores, [short(Some(40))]);
        // What is complete by the answer that counts has no time, and what does not wait has not waited.
        let waits = store("y", WAITING, Some(5));
        let all = together(&[
            of("b", Some("a"), 9, &[short(Some(50)), waits]),
            of(
                "a",
                Some("a"),
                9,
                &[store("x", COMPLETE, None), store("y", SHORT, None)],
            ),
        ]);
        assert_eq!(
            all.stores,
            [store("x", COMPLETE, None), store("y", SHORT, Some(5))]
        );
    }

    #[test]
    fn without_a_leader_the_latest_counts_and_a_later_generation_above_all() {
        let all = together(&[of("a", None, 7, &[]), of("b", None, 9, &[])]);
        assert_eq!((all.box_name.as_str(), all.leader), ("b", None));
        // A box without a coordinator knows no leader; one that has one says who it is.
        let all = together(&[of("d", None, 9, &[]), of("b", Some("a"), 7, &[])]);
        assert_eq!(
            (all.box_name.as_str(), all.leader.as_deref()),
            ("d", Some("a"))
        );
        let recovered = StoresStatus {
            generation: 1,
            ..of("c", None, 2, &[])
        };
        let all = together(&[of("a", Some("a"), 7, &[]), recovered]);
        assert_eq!(all.box_name, "c");
        assert_eq!(together(&[]), StoresStatus::default());
    }
}
