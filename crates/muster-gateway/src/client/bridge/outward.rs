//! The way out of a bridge: what is published here is written to the server, which has to show that it lives.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Sink, SinkExt};
use muster::{Delivery, Subscriber};
use muster_data::DataRef;
use muster_wire::EndpointId;
use tokio::sync::watch;
use tokio_tungstenite::tungstenite::{self, Message, Utf8Bytes};

use super::counts::Counters;
use super::told_to_stop;
use crate::client::connection::ended;
use crate::client::error::{ClientError, DisconnectReason};
use crate::event_text::each_text;

/// How often the server is pinged, and how many pings may be without an answer.
const PING_EVERY: Duration = Duration::from_secs(10);
const SILENT_PINGS: u64 = 3;

/// How long the server may take to make room for one text. It may have stopped with its connection
/// intact, and while a text waits there are no pings.
const WRITE_LIMIT: Duration = Duration::from_secs(30);

/// Writes what is published here. What is unsent when the connection ends goes over the next one.
pub(super) struct Outward<'a> {
    pub(super) unsent: &'a mut VecDeque<Utf8Bytes>,
    pub(super) own: EndpointId,
    pub(super) counters: &'a Counters,
}

impl Outward<'_> {
    pub(super) async fn run(
        mut self,
        mut sink: impl Sink<Message, Error = tungstenite::Error> + Unpin,
        subscriber: &mut Subscriber,
        silent: &AtomicU64,
        stopping: &mut watch::Receiver<bool>,
    ) -> ClientError {
        let mut pings = tokio::time::interval(PING_EVERY);
        loop {
            if let Err(end) = send_all(&mut sink, self.unsent, self.counters).await {
                return end;
            }
            tokio::select! {
                delivery = subscriber.receive() => match delivery {
                    Some(delivery) => {
                        self.counters.note_dropped(subscriber);
                        self.take(&delivery);
                    }
                    None => return ClientError::Ended(DisconnectReason::EndpointShutDown),
                },
                _ = pings.tick() => {
                    if silent.fetch_add(1, Ordering::Relaxed) >= SILENT_PINGS {
                        let limit = PING_EVERY * u32::try_from(SILENT_PINGS).unwrap_or(1);
                        return ClientError::Ended(DisconnectReason::Silent(limit));
                    }
                    if let Err(end) = in_time(sink.send(Message::Ping(Bytes::new()))).await {
                        return end;
                    }
                }
                () = told_to_stop(stopping) => break,
            }
        }
        while let Ok(delivery) = subscriber.try_receive() {
            self.take(&delivery);
        }
        if let Err(end) = send_all(&mut sink, self.unsent, self.counters).await {
            return end;
        }
        if let Err(end) = in_time(sink.close()).await {
            return end;
        }
        // The server's goodbye, which comes when it has read everything, ends the connection.
        std::future::pending().await
    }

    fn take(&mut self, delivery: &Delivery) {
        let Delivery::Batch(batch) = delivery else {
            return;
        };
        for message in batch.iter().filter(|message| message.from != self.own) {
            let value = DataRef::from_validated(message.payload);
            let not_events = each_text(message.topic, value, &mut |text| {
                // What is written is UTF-8.
                self.unsent.extend(Utf8Bytes::try_from(text));
            });
            let counter = &self.counters.not_events;
            counter.fetch_add(not_events, Ordering::Relaxed);
        }
    }
}

async fn send_all(
    sink: &mut (impl Sink<Message, Error = tungstenite::Error> + Unpin),
    texts: &mut VecDeque<Utf8Bytes>,
    counters: &Counters,
) -> Result<(), ClientError> {
    if texts.is_empty() {
        return Ok(());
    }
    while let Some(text) = texts.front() {
        in_time(sink.feed(Message::Text(text.clone()))).await?;
        texts.pop_front();
        counters.events_out.fetch_add(1, Ordering::Relaxed);
    }
    in_time(sink.flush()).await
}

async fn in_time(
    write: impl Future<Output = Result<(), tungstenite::Error>>,
) -> Result<(), ClientError> {
    let written = tokio::time::timeout(WRITE_LIMIT, write).await;
    written
        .map_err(|_| ClientError::Ended(DisconnectReason::NotRead(WRITE_LIMIT)))?
        .map_err(|error| ended(&error))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::pin::Pin;
    use std::sync::{Arc, Mutex};
    use std::task::{Context, Poll};

    use muster::{Endpoint, EndpointConfig};
    use muster_data::{Data, Encode};
    use muster_wire::zeek::{Metadata, put_event};
    use muster_wire::{Class, QueueLimits, Topic};

    use super::*;

    const LIMITS: QueueLimits = QueueLimits {
        messages: 100,
        bytes: 1 << 20,
    };

    /// A connection that takes so many messages besides pings; then its server has stopped, or it is lost.
    struct Takes {
        left: usize,
        is_lost: bool,
        taken: Arc<Mutex<Vec<String>>>,
    }

    impl Sink<Message> for Takes {
        type Error = tungstenite::Error;

        fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
            match self.left {
                0 if self.is_lost => Poll::Ready(Err(tungstenite::Error::ConnectionClosed)),
                0 => Poll::Pending,
                _ => Poll::Ready(Ok(())),
            }
        }

        fn start_send(mut self: Pin<&mut Self>, message: Message) -> Result<(), Self::Error> {
            if let Message::Text(text) = message {
                self.taken.lock().unwrap().push(text.to_string());
                self.left -= 1;
            }
            Ok(())
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
            Poll::Ready(Ok(()))
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
            Poll::Ready(Ok(()))
        }
    }

    /// Publishes three events, in a batch.
    async fn published(endpoint: &Endpoint) -> Subscriber {
        let subscriber = endpoint.subscribe_with_local(["/t"], LIMITS).await;
        let mut payload = Vec::new();
        muster_wire::zeek::put_batch(&mut payload, 3, |out| {
            for number in 0..3_u64 {
                put_event(out, "e", Metadata::default(), |out| {
                    [Data::Count(number)][..].encode(out);
                });
            }
        });
        let topic = Topic::new("/t").unwrap();
        let _ = endpoint
            .publisher()
            .publish_encoded(&topic, payload.into(), Class::Event);
        subscriber
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_stops_reading_is_given_up_and_nothing_is_lost() {
        for is_lost in [false, true] {
            let endpoint = Endpoint::start(EndpointConfig::default()).unwrap();
            let mut subscriber = published(&endpoint).await;
            let taken = Arc::new(Mutex::new(Vec::new()));
            let (counters, mut unsent) = (Counters::default(), VecDeque::new());
            // The second server reads everything, and ends by its silence.
            for left in [1, usize::MAX] {
                let sink = Takes {
                    left,
                    is_lost,
                    taken: Arc::clone(&taken),
                };
                let silent = AtomicU64::new(0);
                let own = muster::random_id().unwrap();
                let outward = Outward {
                    unsent: &mut unsent,
                    own,
                    counters: &counters,
                };
                let (_stop, mut stopping) = watch::channel(false);
                let outward = outward.run(sink, &mut subscriber, &silent, &mut stopping);
                let end = tokio::time::timeout(WRITE_LIMIT * 2, outward).await;
                let Ok(ClientError::Ended(reason)) = end else {
                    panic!("{end:?}");
                };
                let is_expected = match reason {
                    DisconnectReason::Silent(_) => left == usize::MAX,
                    DisconnectReason::Connection(_) => is_lost && left == 1,
                    DisconnectReason::NotRead(_) => !is_lost && left == 1,
                    _ => false,
                };
                assert!(is_expected, "{reason}");
            }
            let taken = taken.lock().unwrap();
            assert_eq!(taken.len(), 3);
            let numbers = taken.iter().enumerate();
            assert!(
                numbers
                    .into_iter()
                    .all(|(number, text)| text.contains(&format!(
                        "{{\"@data-type\":\"count\",\"data\":{number}}}]}}]}}"
                    ))),
                "{taken:?}"
            );
            assert_eq!(counters.events_out.load(Ordering::Relaxed), 3);
        }
    }
}
