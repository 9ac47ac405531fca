//! The feeds of a node: the lists that its frameworks have, and those that they follow.

mod context;

use std::collections::BTreeMap;

use muster_data::ConvertError;
use muster_wire::zeek::{EventRef, Metadata};
use muster_wire::{Class, EndpointId, Mono};

pub use context::FeedContext;

use super::dispatch::{HandlerRef, call};
use super::framework::Declared;
use super::node_core::NodeCore;
use super::{NodeError, NodeLoop, Severity};
use crate::feed::messages::{
    Announcement, SOURCE, WANT, put_announcement, put_want, read_announcement, read_part, read_want,
};
use crate::feed::{FeedLimits, Follower, FollowerHook, Source, SourceHeard, Told, is_name};
use crate::layout::{Layout, Node, NodeName};

/// What a message has besides a part, at most.
const AROUND: usize = 4_096;

/// The lists of a node, by the names of their feeds.
#[derive(Debug, Default)]
pub(crate) struct Sources(BTreeMap<&'static str, Source>);

/// The lists that a node follows, by the names of their feeds.
#[derive(Debug, Default)]
pub(crate) struct Followers(BTreeMap<&'static str, Following>);

/// A list that is followed, and by whom.
#[derive(Debug)]
struct Following {
    hook: HandlerRef,
    follower: Follower,
}

impl Sources {
    pub(super) fn next_deadline(&self, now: Mono) -> Option<Mono> {
        let sources = self.0.values();
        sources.filter_map(|source| source.next_deadline(now)).min()
    }

    /// Somebody has come who may be a follower.
    pub(super) fn hurry(&mut self, now: Mono) {
        for source in self.0.values_mut() {
            source.hurry(now);
        }
    }
}

impl Followers {
    pub(super) fn next_deadline(&self, now: Mono) -> Option<Mono> {
        let all = self.0.values();
        all.filter_map(|following| following.follower.next_deadline(now))
            .min()
    }
}

/// What a feed may be on a node: its messages fit into queues.
fn limits(node: &Node) -> FeedLimits {
    let standard = FeedLimits::STANDARD;
    let queue = node.settings.size("peering.bulk_queue_bytes");
    let largest = node.settings.size("peering.largest_message").min(queue);
    FeedLimits {
        part: standard.part.min(largest.saturating_sub(AROUND)),
        window: standard.window.min(queue / 2),
        ..standard
    }
}

impl NodeCore {
    /// Returns the source of a feed, if it is here.
    fn source(&mut self, feed: &str) -> Option<&mut Source> {
        self.sources.0.get_mut(feed)
    }

    /// Says that sources are there, and sends followers what they are to get.
    fn feed_followers(&mut self) {
        let now = self.clock.now.mono;
        let mut announcing = Vec::new();
        let mut sending = Vec::new();
        for (feed, source) in &mut self.sources.0 {
            if let Some(head) = source.announcement(now) {
                announcing.push(Announcement { feed, head });
            }
            sending.append(&mut source.take_parts(now));
        }
        for announcement in announcing {
            let topic = self.layout.topics().feed(announcement.feed);
            // Where nobody follows yet, it is no mistake.
            self.send(&topic, Class::Control, SOURCE, Metadata::default(), |out| {
                put_announcement(out, &announcement);
            });
        }
        for (to, payload) in sending {
            let topic = self.layout.topics().id(to);
            self.counts.feed_parts_sent += 1;
            self.post(&topic, Class::Bulk, payload);
        }
    }
}

impl NodeLoop {
    /// Returns the number of items of a feed that this node's framework was told of, or `None` if the node does not follow it.
    pub fn followed_items(&self, feed: &str) -> Option<usize> {
        let following = self.followers.0.get(feed)?;
        Some(following.follower.len())
    }

    /// Lets a rule of feeds be broken, and other bounds be there, to see that it is noticed.
    #[cfg(any(test, feature = "simulation"))]
    pub fn sabotage_feeds(&mut self, rule: crate::feed::FeedSabotage, limits: FeedLimits) {
        for source in self.core.sources.0.values_mut() {
            source.sabotage(rule, limits);
        }
        for following in self.followers.0.values_mut() {
            following.follower.sabotage(rule, limits);
        }
    }

    /// Takes the feeds that a framework has declared.
    pub(super) fn declare_feeds(
        &mut self,
        declared: &Declared,
        framework: usize,
        layout: &Layout,
    ) -> Result<(), NodeError> {
        let limits = limits(&self.core.node);
        let all = declared.feed_sources.iter().chain(&declared.feeds);
        if let Some(wrong) = all.copied().find(|name| !is_name(name)) {
            return Err(NodeError::FeedName(wrong));
        }
        for feed in &declared.feed_sources {
            let source = Source::new(feed, limits);
            if self.core.sources.0.insert(feed, source).is_some() {
                return Err(NodeError::FeedTwice(feed));
            }
        }
        for (hook, feed) in declared.feeds.iter().enumerate() {
            let following = Following {
                hook: (framework, hook),
                follower: Follower::new(limits),
            };
            if self.followers.0.insert(feed, following).is_some() {
                return Err(NodeError::FeedTwice(feed));
            }
            let topic = layout.topics().feed(feed);
            self.core.outbox.subscriptions.push(topic);
        }
        Ok(())
    }

    /// Does what is due for feeds.
    pub(super) fn look_at_feeds(&mut self) {
        let now = self.core.clock.now.mono;
        let is_due = |following: &Following| {
            let at = following.follower.next_deadline(now);
            at.is_some_and(|at| at <= now)
        };
        let due = self.followers.0.iter();
        let due = due.filter(|(_, following)| is_due(following));
        let due: Vec<&'static str> = due.map(|(feed, _)| *feed).collect();
        for feed in due {
            let told = self.with_follower(feed, |follower, tell| follower.tick(now, tell));
            self.core.counts.feed_changes += told.unwrap_or(0);
        }
        self.core.feed_followers();
    }

    /// A node is gone, which may have been a source or a follower.
    pub(super) fn feeds_lose(&mut self, life: EndpointId) {
        for source in self.core.sources.0.values_mut() {
            source.gone(life);
        }
        let now = self.core.clock.now.mono;
        let feeds: Vec<&'static str> = self.followers.0.keys().copied().collect();
        for feed in feeds {
            self.with_follower(feed, |follower, tell| follower.gone(life, now, tell));
        }
    }

    /// A node says that it is the source of a feed.
    pub(super) fn feed_announced(&mut self, from: EndpointId, event: &EventRef<'_>) {
        let Some(source) = self.node_of(from, event.name()) else {
            return;
        };
        let Some(Announcement { feed, head }) = read_announcement(event.arguments()) else {
            self.core.counts.events_refused += 1;
            return;
        };
        let now = self.core.clock.now.mono;
        let rival = self.with_follower(feed, |follower, tell| {
            follower.announced(&source, from, head, now, tell);
            let rival = follower.rival();
            rival.map(|(followed, other)| (followed.clone(), other.clone()))
        });
        if let Some(Some((followed, other))) = rival {
            let kind = format!("sources of feed {feed}");
            let text = || {
                format!(
                    "feed `{feed}` has two sources, {followed} and {other}: {followed} is followed, whose name comes first"
                )
            };
            self.core.report(Severity::Warning, &kind, text);
        }
    }

    /// A node says what it has of a feed of this one.
    pub(super) fn feed_wanted(&mut self, from: EndpointId, event: &EventRef<'_>) {
        if !self.is_from_node(from, event.name()) {
            return;
        }
        let Some((feed, want)) = read_want(event.arguments()) else {
            self.core.counts.events_refused += 1;
            return;
        };
        let now = self.core.clock.now.mono;
        let source = self.core.source(feed);
        let heard = source.map(|source| source.wanted(from, &want, now));
        match heard {
            Some(SourceHeard::Taken | SourceHeard::Late) => {}
            Some(SourceHeard::TooMany) => {
                self.core.counts.events_refused += 1;
                let kind = format!("followers of feed {feed}");
                let text = || format!("feed `{feed}` has too many followers: {from} gets nothing");
                self.core.report(Severity::Warning, &kind, text);
            }
            Some(SourceHeard::Stray) | None => self.core.counts.events_refused += 1,
        }
    }

    /// A part of a list that this node may follow.
    pub(super) fn feed_part(&mut self, from: EndpointId, event: &EventRef<'_>) {
        if !self.is_from_node(from, event.name()) {
            return;
        }
        let Some(part) = read_part(event.arguments()) else {
            self.core.counts.events_refused += 1;
            let kind = "parts of feeds";
            let text = || format!("refused a part of a feed of {from}: it is none");
            return self.core.report(Severity::Warning, kind, text);
        };
        let now = self.core.clock.now.mono;
        let bytes = event.arguments().encoded().len();
        let fate = self.with_follower(part.feed, |follower, tell| {
            follower.part(from, &part, bytes, now, tell)
        });
        let fate = fate.unwrap_or_default();
        let counts = &mut self.core.counts;
        if fate.is_taken {
            counts.feed_parts_taken += 1;
        } else {
            counts.feed_parts_dropped += 1;
        }
        counts.feed_changes += fate.told;
        counts.feed_changes_refused += fate.refused;
        if fate.refused > 0 {
            let feed = part.feed;
            let kind = format!("items of feed {feed}");
            let text = || {
                let refused = fate.refused;
                format!(
                    "feed `{feed}`: {refused} items of {from} cannot be read, or there is no room for them; they are left out"
                )
            };
            self.core.report(Severity::Warning, &kind, text);
        }
    }

    /// Returns the name of the node, this one or another, that a message is of.
    fn node_of(&mut self, from: EndpointId, event: &str) -> Option<NodeName> {
        if !self.is_from_node(from, event) {
            return None;
        }
        let name = self.core.members.membership.name_of(from);
        Some(name.unwrap_or(&self.core.node.name).clone())
    }

    /// Does something with a follower. Its framework is told what comes of it, and its source what it wants.
    fn with_follower<R>(
        &mut self,
        feed: &str,
        act: impl FnOnce(&mut Follower, &mut FollowerHook<'_>) -> R,
    ) -> Option<R> {
        let Self {
            core,
            frameworks,
            followers,
            ..
        } = self;
        let Following { hook, follower } = followers.0.get_mut(feed)?;
        let (framework, hook) = *hook;
        let hosted = frameworks.get_mut(framework)?;
        let rounds = follower.rounds();
        let mut wrong: Option<ConvertError> = None;
        let result = act(follower, &mut |told: Told<'_>| {
            let heard = call(core, framework, &mut **hosted, feed, |hosted, cx| {
                hosted.feed(hook, told, cx)
            });
            match heard {
                Some(Err(error)) => {
                    wrong.get_or_insert(error);
                    false
                }
                // A panic costs the one call.
                Some(Ok(())) | None => true,
            }
        });
        core.counts.feed_lists += u64::from(follower.rounds().wrapping_sub(rounds));
        let wants = follower.take_wants();
        if let Some(error) = wrong {
            let name = hosted.name();
            let kind = format!("refused items of feed {feed}");
            let text = || format!("framework {name} cannot read an item of feed `{feed}`: {error}");
            core.report(Severity::Warning, &kind, text);
        }
        for (to, want) in wants {
            let topic = core.layout.topics().id(to);
            let metadata = Metadata::default();
            core.send(&topic, Class::Interactive, WANT, metadata, |out| {
                put_want(out, feed, &want);
            });
        }
        Some(result)
    }
}
