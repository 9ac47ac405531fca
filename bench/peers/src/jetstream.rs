//! NATS JetStream: a stream in a file, without replicas, and messages that are acknowledged.

use std::collections::VecDeque;
use std::future::IntoFuture;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use async_nats::jetstream::stream::{Config, StorageType};
use async_nats::jetstream::{self, Context};
use bytes::Bytes;
use muster_measure::{cpu_seconds, cpu_seconds_of};

use crate::nats::{connect, two_threads};
use crate::report::AcknowledgedRow;
use crate::server::NatsServer;

const SUBJECT: &str = "records";

/// Messages that may wait for their acknowledgement; one keyed event's owner has as many.
const WINDOW: usize = 4_096;

/// The size of a message: a record of eight small fields, or an event with its key.
const SIZE: usize = 80;

/// Messages that follow one another.
const ONE_BY_ONE: usize = 5_000;

/// Publishes for so many seconds, each message on its own, and then one behind the other.
pub(crate) fn acknowledged(server: &NatsServer, seconds: f64) -> Result<AcknowledgedRow> {
    two_threads()?.block_on(async {
        let context = jetstream::new(connect(&server.address).await?);
        let config = Config {
            name: "bench".to_owned(),
            subjects: vec![SUBJECT.to_owned()],
            storage: StorageType::File,
            num_replicas: 1,
            ..Config::default()
        };
        context.create_stream(config).await?;
        let cpu = || Ok::<f64, anyhow::Error>(cpu_seconds() + cpu_seconds_of(server.pid)?);
        let (start, before) = (Instant::now(), cpu()?);
        let messages = many(&context, start, seconds).await?;
        let (took, cpu) = (start.elapsed().as_secs_f64(), cpu()? - before);
        let mut times = one_by_one(&context).await?;
        times.sort();
        let at = |percent: usize| times.get(times.len() * percent / 100).copied();
        Ok(AcknowledgedRow {
            rate: messages / took,
            cpu: cpu / messages,
            p50: at(50).context("a time")?,
            p99: at(99).context("a time")?,
        })
    })
}

/// Returns how many messages were acknowledged.
async fn many(context: &Context, start: Instant, seconds: f64) -> Result<f64> {
    let payload = Bytes::from(vec![b'x'; SIZE]);
    let mut waiting = VecDeque::new();
    let mut messages = 0.0;
    while start.elapsed().as_secs_f64() < seconds {
        while waiting.len() < WINDOW {
            let published = context.publish(SUBJECT, payload.clone()).await?;
            waiting.push_back(published.into_future());
        }
        for acknowledged in waiting.drain(..WINDOW / 4) {
            acknowledged.await?;
            messages += 1.0;
        }
    }
    for acknowledged in waiting {
        acknowledged.await?;
        messages += 1.0;
    }
    Ok(messages)
}

async fn one_by_one(context: &Context) -> Result<Vec<Duration>> {
    let payload = Bytes::from(vec![b'x'; SIZE]);
    let mut times = Vec::new();
    for _ in 0..ONE_BY_ONE {
        let begun = Instant::now();
        context.publish(SUBJECT, payload.clone()).await?.await?;
        times.push(begun.elapsed());
    }
    Ok(times)
}
