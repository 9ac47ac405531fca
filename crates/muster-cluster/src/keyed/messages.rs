//! What producers, owners and standbys say to one another.
//!
//! All are events for one life of a node, on its topic. Elements behind the known ones are ignored.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use muster_data::{DataRef, ValueRef, encode};
use muster_wire::EndpointId;

use super::entry::{Changes, Contents, EventId, OutputChange, RowChange, Version};
use crate::delivery::Numbers;

/// A producer's events for the owner of their keys.
pub(crate) const EVENTS: &str = "Muster::keyed";

/// An owner's word on a producer's events.
pub(crate) const EVENTS_ACK: &str = "Muster::keyed_ack";

/// What a member of a pool tells another one of its keys.
pub(crate) const LANE: &str = "Muster::keyed_lane";

/// What has arrived of that.
pub(crate) const LANE_ACK: &str = "Muster::keyed_lane_ack";

/// The events that a producer may have open in a pool: the numbers that it uses are no further apart.
pub(crate) const MOST_OPEN: u64 = 65_536;

/// Where a member is after others have come or gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    /// It has offered all that the other one may own now.
    Offered,
    /// Of all that it owns its standbys have a copy.
    Settled,
    /// It has nothing any more of what is neither its own nor a copy.
    Clean,
}

/// What a member tells another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LaneItem {
    /// All that is known of a digest.
    Contents(u32, Contents),
    /// What has changed.
    Changes {
        digest: u32,
        base: Version,
        version: Version,
        changes: Changes,
        events: Vec<EventId>,
    },
    /// Nothing is known of a digest any more, which was of this version.
    Forget(u32, Version),
    /// Of these producers nothing below these numbers comes again.
    Floors(BTreeMap<EndpointId, u64>),
    Mark(Mark),
}

/// An event on its way to the owner of its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyedEvent {
    /// Its place among all that the owner gets.
    pub(crate) place: u64,
    /// Its number in the life of its producer.
    pub(crate) number: u64,
    pub(crate) digest: u32,
    /// The event, an encoded value: name, arguments, time.
    pub(crate) payload: Bytes,
    /// By which it is known, if it is the output of a handler: others may send it as well.
    pub(crate) made_as: Option<EventId>,
}

/// Events of one producer for one owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Events {
    /// Grows whenever the producer numbers anew what this owner gets.
    pub(crate) generation: u64,
    /// From this place on to the last of them nothing else is open.
    pub(crate) first: u64,
    /// The first number that is open.
    pub(crate) floor: u64,
    /// The same of outputs that the producer has made as an owner: nobody sends any below it.
    pub(crate) outputs_floor: u64,
    pub(crate) events: Vec<KeyedEvent>,
}

/// What an owner says to a producer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EventsAck {
    pub(crate) generation: u64,
    /// The place of the first event that has not been taken.
    pub(crate) expected: u64,
    /// These are done.
    pub(crate) done: Numbers,
}

/// What a member says to another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LaneMessage {
    pub(crate) roster: u64,
    pub(crate) generation: u64,
    /// The generation of what the other one says, and what is expected of it next; zeros if nothing was heard.
    pub(crate) heard: (u64, u64),
    pub(crate) first: u64,
    pub(crate) items: Vec<Bytes>,
}

/// What has arrived of what a member says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LaneAck {
    pub(crate) roster: u64,
    pub(crate) generation: u64,
    pub(crate) expected: u64,
    /// Digests whose changes do not fit what is there: all of it is wanted.
    pub(crate) wanted: BTreeSet<u32>,
}

impl Mark {
    fn number(self) -> u64 {
        match self {
            Self::Offered => 10,
            Self::Settled => 11,
            Self::Clean => 12,
        }
    }
}

// --- items of lanes ------------------------------------------------------------------------------

fn put_version(out: &mut Vec<u8>, version: Version) {
    encode::count(out, version.epoch);
    encode::count(out, version.term);
    encode::count(out, version.count);
}

fn put_events(out: &mut Vec<u8>, events: &BTreeMap<EndpointId, Numbers>) {
    encode::vector_header(out, events.len() * 2);
    for (producer, numbers) in events {
        encode::string(out, producer.as_bytes());
        put_numbers(out, numbers);
    }
}

fn put_id(out: &mut Vec<u8>, id: EventId) {
    encode::string(out, id.producer.as_bytes());
    encode::count(out, id.number);
}

fn put_outputs<'a>(
    out: &mut Vec<u8>,
    outputs: impl ExactSizeIterator<Item = (EventId, Option<&'a Bytes>)>,
) {
    encode::vector_header(out, outputs.len() * 3);
    for (id, output) in outputs {
        put_id(out, id);
        match output {
            Some(output) => encode::string(out, output),
            None => encode::none(out),
        }
    }
}

fn put_numbers(out: &mut Vec<u8>, numbers: &Numbers) {
    let pairs = numbers.to_pairs();
    encode::vector_header(out, pairs.len());
    for number in pairs {
        encode::count(out, number);
    }
}

/// Encodes an item.
pub(crate) fn encoded(item: &LaneItem) -> Bytes {
    let mut out = Vec::with_capacity(160);
    match item {
        LaneItem::Contents(digest, contents) => {
            encode::vector_header(&mut out, 8);
            encode::count(&mut out, 0);
            encode::count(&mut out, u64::from(*digest));
            put_version(&mut out, contents.version);
            encode::vector_header(&mut out, contents.rows.len() * 2);
            for (row, value) in &contents.rows {
                encode::string(&mut out, row);
                encode::string(&mut out, value);
            }
            put_events(&mut out, &contents.handled);
            let outputs = contents.outputs.iter();
            put_outputs(&mut out, outputs.map(|(id, output)| (*id, Some(output))));
        }
        LaneItem::Changes {
            digest,
            base,
            version,
            changes,
            events,
        } => {
            encode::vector_header(&mut out, 11);
            encode::count(&mut out, 1);
            encode::count(&mut out, u64::from(*digest));
            put_version(&mut out, *base);
            put_version(&mut out, *version);
            encode::vector_header(&mut out, changes.rows.len() * 2);
            for RowChange { row, value } in &changes.rows {
                encode::string(&mut out, row);
                match value {
                    Some(value) => encode::string(&mut out, value),
                    None => encode::none(&mut out),
                }
            }
            let mut handled: BTreeMap<EndpointId, Numbers> = BTreeMap::new();
            for event in events {
                handled
                    .entry(event.producer)
                    .or_default()
                    .insert(event.number);
            }
            put_events(&mut out, &handled);
            let outputs = changes.outputs.iter();
            put_outputs(&mut out, outputs.map(|it| (it.id, it.output.as_ref())));
        }
        LaneItem::Forget(digest, version) => {
            encode::vector_header(&mut out, 5);
            encode::count(&mut out, 2);
            encode::count(&mut out, u64::from(*digest));
            put_version(&mut out, *version);
        }
        LaneItem::Floors(floors) => {
            encode::vector_header(&mut out, 2);
            encode::count(&mut out, 3);
            encode::vector_header(&mut out, floors.len() * 2);
            for (producer, floor) in floors {
                encode::string(&mut out, producer.as_bytes());
                encode::count(&mut out, *floor);
            }
        }
        LaneItem::Mark(mark) => {
            encode::vector_header(&mut out, 1);
            encode::count(&mut out, mark.number());
        }
    }
    out.into()
}

type Elements<'a> = dyn Iterator<Item = DataRef<'a>> + 'a;

fn count(elements: &mut Elements<'_>) -> Option<u64> {
    elements.next()?.as_count()
}

fn digest(elements: &mut Elements<'_>) -> Option<u32> {
    u32::try_from(count(elements)?).ok()
}

fn version(elements: &mut Elements<'_>) -> Option<Version> {
    Some(Version {
        epoch: count(elements)?,
        term: count(elements)?,
        count: count(elements)?,
    })
}

fn bytes(value: DataRef<'_>) -> Option<Bytes> {
    match value.get() {
        ValueRef::String(text) => Some(Bytes::copy_from_slice(text)),
        _ => None,
    }
}

fn numbers(value: DataRef<'_>) -> Option<Numbers> {
    let pairs: Option<Vec<u64>> = value
        .as_vector()?
        .iter()
        .map(|value| value.as_count())
        .collect();
    Numbers::from_pairs(&pairs?)
}

fn life(value: DataRef<'_>) -> Option<EndpointId> {
    let ValueRef::String(bytes) = value.get() else {
        return None;
    };
    Some(EndpointId::from_bytes(<[u8; 16]>::try_from(bytes).ok()?))
}

fn handled(value: DataRef<'_>) -> Option<BTreeMap<EndpointId, Numbers>> {
    let mut elements = value.as_vector()?.iter();
    let mut handled = BTreeMap::new();
    while let Some(producer) = elements.next() {
        let producer = life(producer)?;
        let numbers = numbers(elements.next()?)?;
        if numbers.len() > MOST_OPEN {
            return None;
        }
        handled.insert(producer, numbers);
    }
    Some(handled)
}

/// Members of former releases say nothing of outputs.
fn outputs(value: Option<DataRef<'_>>) -> Option<Vec<OutputChange>> {
    let Some(value) = value else {
        return Some(Vec::new());
    };
    let mut elements = value.as_vector()?.iter();
    let mut outputs = Vec::new();
    while let Some(producer) = elements.next() {
        let producer = life(producer)?;
        let number = count(&mut elements)?;
        let output = elements.next()?;
        let output = match output.get() {
            ValueRef::None => None,
            _ => Some(bytes(output)?),
        };
        let id = EventId { producer, number };
        outputs.push(OutputChange { id, output });
    }
    Some(outputs)
}

/// Reads an item. `None` if it is none.
pub(crate) fn decoded(item: DataRef<'_>) -> Option<LaneItem> {
    let mut elements = item.as_vector()?.iter();
    Some(match count(&mut elements)? {
        0 => {
            let digest = digest(&mut elements)?;
            let version = version(&mut elements)?;
            let mut pairs = elements.next()?.as_vector()?.iter();
            let mut rows = BTreeMap::new();
            while let Some(row) = pairs.next() {
                rows.insert(bytes(row)?, bytes(pairs.next()?)?);
            }
            let handled = handled(elements.next()?)?;
            let outputs = outputs(elements.next())?.into_iter();
            let outputs = outputs.filter_map(|it| Some((it.id, it.output?)));
            let contents = Contents {
                version,
                rows,
                handled,
                outputs: outputs.collect(),
            };
            LaneItem::Contents(digest, contents)
        }
        1 => {
            let digest = digest(&mut elements)?;
            let base = version(&mut elements)?;
            let version = version(&mut elements)?;
            let mut pairs = elements.next()?.as_vector()?.iter();
            let mut rows = Vec::new();
            while let Some(row) = pairs.next() {
                let row = bytes(row)?;
                let value = pairs.next()?;
                let value = match value.get() {
                    ValueRef::None => None,
                    _ => Some(bytes(value)?),
                };
                rows.push(RowChange { row, value });
            }
            let handled = handled(elements.next()?)?;
            let events = handled.iter().flat_map(|(producer, numbers)| {
                let producer = *producer;
                numbers
                    .iter()
                    .map(move |number| EventId { producer, number })
            });
            let events = events.collect();
            let outputs = outputs(elements.next())?;
            let changes = Changes { rows, outputs };
            LaneItem::Changes {
                digest,
                base,
                version,
                changes,
                events,
            }
        }
        2 => LaneItem::Forget(digest(&mut elements)?, version(&mut elements)?),
        3 => {
            let mut pairs = elements.next()?.as_vector()?.iter();
            let mut floors = BTreeMap::new();
            while let Some(producer) = pairs.next() {
                floors.insert(life(producer)?, count(&mut pairs)?);
            }
            LaneItem::Floors(floors)
        }
        10 => LaneItem::Mark(Mark::Offered),
        11 => LaneItem::Mark(Mark::Settled),
        12 => LaneItem::Mark(Mark::Clean),
        _ => return None,
    })
}

// --- messages ------------------------------------------------------------------------------------

/// Appends the arguments of [`EVENTS`].
pub(crate) fn put_keyed_events(out: &mut Vec<u8>, pool: &str, message: &Events) {
    encode::vector_header(out, 7);
    encode::string(out, pool.as_bytes());
    encode::count(out, message.generation);
    encode::count(out, message.first);
    encode::count(out, message.floor);
    encode::vector_header(out, message.events.len() * 4);
    for event in &message.events {
        encode::count(out, event.place);
        encode::count(out, event.number);
        encode::count(out, u64::from(event.digest));
        out.extend_from_slice(&event.payload);
    }
    encode::count(out, message.outputs_floor);
    let outputs = message.events.iter();
    let outputs = outputs.filter_map(|event| Some((event.place, event.made_as?)));
    let outputs: Vec<(u64, EventId)> = outputs.collect();
    encode::vector_header(out, outputs.len() * 3);
    for (place, id) in outputs {
        encode::count(out, place);
        put_id(out, id);
    }
}

/// Reads the arguments of [`EVENTS`], with the topic of the pool.
pub(crate) fn read_keyed_events(arguments: DataRef<'_>) -> Option<(&str, Events)> {
    let mut elements = arguments.as_vector()?.iter();
    let pool = elements.next()?.as_str()?;
    let generation = count(&mut elements)?;
    let first = count(&mut elements)?;
    let floor = count(&mut elements)?;
    let mut parts = elements.next()?.as_vector()?.iter();
    let mut events = Vec::new();
    while let Some(place) = parts.next() {
        events.push(KeyedEvent {
            place: place.as_count()?,
            number: count(&mut parts)?,
            digest: digest(&mut parts)?,
            payload: Bytes::copy_from_slice(parts.next()?.bytes()),
            made_as: None,
        });
    }
    // Nodes of former releases say nothing of outputs.
    let outputs_floor = match elements.next() {
        Some(floor) => floor.as_count()?,
        None => 0,
    };
    if let Some(outputs) = elements.next() {
        let mut parts = outputs.as_vector()?.iter();
        while let Some(place) = parts.next() {
            let place = place.as_count()?;
            let producer = life(parts.next()?)?;
            let number = count(&mut parts)?;
            // Places ascend.
            let index = events.binary_search_by_key(&place, |event| event.place);
            let event = events.get_mut(index.ok()?)?;
            event.made_as = Some(EventId { producer, number });
        }
    }
    let message = Events {
        generation,
        first,
        floor,
        outputs_floor,
        events,
    };
    Some((pool, message))
}

/// Appends the arguments of [`EVENTS_ACK`].
pub(crate) fn put_events_ack(out: &mut Vec<u8>, pool: &str, message: &EventsAck) {
    encode::vector_header(out, 4);
    encode::string(out, pool.as_bytes());
    encode::count(out, message.generation);
    encode::count(out, message.expected);
    put_numbers(out, &message.done);
}

/// Reads the arguments of [`EVENTS_ACK`], with the topic of the pool.
pub(crate) fn read_events_ack(arguments: DataRef<'_>) -> Option<(&str, EventsAck)> {
    let mut elements = arguments.as_vector()?.iter();
    let pool = elements.next()?.as_str()?;
    let message = EventsAck {
        generation: count(&mut elements)?,
        expected: count(&mut elements)?,
        done: numbers(elements.next()?)?,
    };
    Some((pool, message))
}

/// Appends the arguments of [`LANE`].
pub(crate) fn put_lane(out: &mut Vec<u8>, pool: &str, message: &LaneMessage) {
    encode::vector_header(out, 7);
    encode::string(out, pool.as_bytes());
    encode::count(out, message.roster);
    encode::count(out, message.generation);
    encode::count(out, message.heard.0);
    encode::count(out, message.heard.1);
    encode::count(out, message.first);
    encode::vector_header(out, message.items.len());
    for item in &message.items {
        out.extend_from_slice(item);
    }
}

/// Reads the arguments of [`LANE`], with the topic of the pool.
pub(crate) fn read_lane(arguments: DataRef<'_>) -> Option<(&str, LaneMessage)> {
    let mut elements = arguments.as_vector()?.iter();
    let pool = elements.next()?.as_str()?;
    let roster = count(&mut elements)?;
    let generation = count(&mut elements)?;
    let heard = (count(&mut elements)?, count(&mut elements)?);
    let first = count(&mut elements)?;
    let items = elements.next()?.as_vector()?.iter();
    let message = LaneMessage {
        roster,
        generation,
        heard,
        first,
        items: items
            .map(|item| Bytes::copy_from_slice(item.bytes()))
            .collect(),
    };
    Some((pool, message))
}

/// Appends the arguments of [`LANE_ACK`].
pub(crate) fn put_lane_ack(out: &mut Vec<u8>, pool: &str, message: &LaneAck) {
    encode::vector_header(out, 5);
    encode::string(out, pool.as_bytes());
    encode::count(out, message.roster);
    encode::count(out, message.generation);
    encode::count(out, message.expected);
    encode::vector_header(out, message.wanted.len());
    for digest in &message.wanted {
        encode::count(out, u64::from(*digest));
    }
}

/// Reads the arguments of [`LANE_ACK`], with the topic of the pool.
pub(crate) fn read_lane_ack(arguments: DataRef<'_>) -> Option<(&str, LaneAck)> {
    let mut elements = arguments.as_vector()?.iter();
    let pool = elements.next()?.as_str()?;
    let roster = count(&mut elements)?;
    let generation = count(&mut elements)?;
    let expected = count(&mut elements)?;
    let wanted = elements.next()?.as_vector()?.iter();
    let wanted: Option<BTreeSet<u32>> = wanted
        .map(|digest| u32::try_from(digest.as_count()?).ok())
        .collect();
    let message = LaneAck {
        roster,
        generation,
        expected,
        wanted: wanted?,
    };
    Some((pool, message))
}
