//! The way to a cluster's register: through any node.

use std::time::{Duration, Instant};

use anyhow::{Error, Result};
use muster::store::{CloneOptions, Store, StoreFinder, StoreName, StoreNeed};
use muster::{Endpoint, PeerInfo, Tls};
use muster_cluster::register::STORE;
use muster_wire::peering::Protocol;

use super::super::store::opening::Wanted;
use super::Arguments;
use super::picture::Picture;
use crate::cluster::doors::{Door, doors};
use crate::output::{Failure, NOT_RUNNING};

/// How long one of several nodes may take to answer.
const ONE_OF_MANY: Duration = Duration::from_secs(2);

/// A copy of the register.
pub(super) struct Session {
    endpoint: Endpoint,
    /// What is written is on disk when it is done.
    pub(super) store: Store,
}

impl Session {
    /// Dials a node, and gets a copy.
    pub(super) async fn open(arguments: &Arguments) -> Result<Self> {
        let start = Instant::now();
        let (endpoint, finder, peer) = dialled(arguments).await?;
        let left = arguments.timeout.saturating_sub(start.elapsed());
        match copy(&endpoint, finder, &peer, left, arguments).await {
            Ok(store) => Ok(Self { endpoint, store }),
            Err(error) => {
                endpoint.shut_down().await;
                Err(error)
            }
        }
    }

    /// Returns what is there.
    pub(super) async fn picture(&self) -> Result<Picture> {
        Ok(Picture::of(&self.store.entries().await?))
    }

    pub(super) async fn close(self) {
        drop(self.store);
        self.endpoint.shut_down().await;
    }
}

type Dialled = (Endpoint, StoreFinder, PeerInfo);

async fn dialled(arguments: &Arguments) -> Result<Dialled> {
    if let Some(address) = &arguments.address {
        let tls = super::super::tls(address, &arguments.connection)?;
        return dial(tls, address).await;
    }
    let doors = doors(arguments.layout.as_deref())?;
    let (mut last, mut of_zeek) = (None, None);
    // The other half is for what is to be done. Of a machine that does not answer one node is tried.
    let until = Instant::now() + arguments.timeout / 2;
    let mut silent: Vec<String> = Vec::new();
    for Door { node, address, tls } in doors {
        let limit = until.saturating_duration_since(Instant::now());
        let limit = limit.min(ONE_OF_MANY);
        let machine = address.rsplit_once(':').map_or("", |(machine, _)| machine);
        if limit.is_zero() || silent.iter().any(|it| it == machine) {
            continue;
        }
        match tokio::time::timeout(limit, dial(tls, &address)).await {
            // A Zeek process knows nothing of stores of Muster's.
            Ok(Ok(dialled)) if dialled.2.protocol == Protocol::V1 => {
                of_zeek = of_zeek.or(Some(node));
                dialled.0.shut_down().await;
            }
            Ok(Ok(dialled)) => return Ok(dialled),
            Ok(Err(error)) => last = Some(format!("{node}: {error}")),
            Err(_) => {
                silent.push(machine.to_owned());
                last = Some(format!("{node} at {address} does not answer"));
            }
        }
    }
    Err(unanswered(last, of_zeek))
}

fn unanswered(last: Option<String>, of_zeek: Option<String>) -> Error {
    let why = match (last, of_zeek) {
        (Some(last), _) => last,
        (None, Some(node)) => format!("{node} is a Zeek process"),
        (None, None) => "the layout has none".to_owned(),
    };
    Failure::new(format!("no node of the cluster answers: {why}"))
        .hint("`muster status` shows whether its nodes are up; --address names a node of another machine")
        .code(NOT_RUNNING)
        .into()
}

async fn dial(tls: Tls, address: &str) -> Result<Dialled> {
    let endpoint = super::super::start_with(tls)?;
    let finder = StoreFinder::new(&endpoint).await;
    match super::super::dial(&endpoint, address, false).await {
        Ok(peer) => Ok((endpoint, finder, peer)),
        Err(error) => {
            endpoint.shut_down().await;
            Err(error)
        }
    }
}

async fn copy(
    endpoint: &Endpoint,
    finder: StoreFinder,
    peer: &PeerInfo,
    limit: Duration,
    arguments: &Arguments,
) -> Result<Store> {
    let name = StoreName::new(STORE)?;
    let wanted = Wanted {
        endpoint,
        finder,
        store: &name,
        need: StoreNeed::Existing,
        connection: arguments.address.is_some().then_some(&arguments.connection),
        absent,
    };
    let limit = wanted.in_sight(peer.id, limit).await?;
    let store = endpoint.open_clone(&name, CloneOptions::default()).await?;
    let store = store.within(limit).durable();
    let attached = store.attached().await;
    attached.map_err(|error| super::explained(error.into()))?;
    Ok(store)
}

/// Nobody has the store.
fn absent(_: &StoreName) -> Failure {
    Failure::new("no node of the cluster has registers or live settings")
        .hint("they come with frameworks that declare them; nodes of earlier versions have none")
}
