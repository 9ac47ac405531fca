//! Bytes and back, and bytes of nobody.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0..300_u64, 0..=MAX_NUMBER]
}

fn counted() -> impl Strategy<Value = u64> {
    number().prop_map(|number| number.max(1))
}

fn disk() -> impl Strategy<Value = DiskId> {
    any::<[u8; 16]>().prop_map(DiskId)
}

fn voter() -> impl Strategy<Value = VoterId> {
    ("[a-z]{1,20}", disk()).prop_map(|(name, disk)| VoterId { name, disk })
}

fn change() -> impl Strategy<Value = VoterChange> {
    prop_oneof![
        voter().prop_map(VoterChange::AddLearner),
        disk().prop_map(VoterChange::Promote),
        disk().prop_map(VoterChange::Remove),
    ]
}

fn content() -> impl Strategy<Value = Content> {
    prop_oneof![
        Just(Content::Nothing),
        vec(any::<u8>(), 1..100).prop_map(|data| Content::Data(data.into())),
        change().prop_map(Content::Change),
    ]
}

fn snapshot() -> impl Strategy<Value = Snapshot> {
    let members = (vec(voter(), 1..5), vec(voter(), 0..3));
    let members = members.prop_filter_map("no group", |(voters, learners)| {
        Members::new(voters, learners).ok()
    });
    let state = vec(any::<u8>(), 0..300);
    (counted(), counted(), members, state).prop_map(|(index, term, members, state)| Snapshot {
        index,
        term,
        members,
        state: state.into(),
    })
}

fn append() -> impl Strategy<Value = Body> {
    let entries = vec((0..3_u64, content()), 0..5);
    (1..9_u64, 1..9_u64, number(), entries).prop_map(|(before, before_term, commit, steps)| {
        let (mut index, mut term) = (before, before_term);
        let entries = steps.into_iter().map(|(step, content)| {
            index += 1;
            term += step;
            Entry {
                index,
                term,
                content,
            }
        });
        let entries: Vec<Entry> = entries.collect();
        Body::Append {
            term: entries.last().map_or(before_term, |last| last.term) + 1,
            before,
            before_term,
            commit,
            entries,
        }
    })
}

fn body() -> impl Strategy<Value = Body> {
    let hint = proptest::option::of((number(), number()));
    let hint = hint.prop_map(|hint| hint.map(|(index, term)| Hint { index, term }));
    let four = (number(), number(), number(), number());
    prop_oneof![
        append(),
        (counted(), number(), number(), hint).prop_map(|(term, index, commit, rejected)| {
            Body::AppendReply {
                term,
                index,
                commit,
                rejected,
            }
        }),
        (counted(), four, any::<[bool; 2]>()).prop_map(|(term, four, [pre, handed_on])| {
            Body::Vote {
                pre,
                term,
                last: four.0,
                last_term: four.1,
                commit: four.2,
                commit_term: four.3,
                handed_on,
            }
        }),
        (counted(), number(), number(), any::<[bool; 2]>()).prop_map(
            |(term, commit, commit_term, [pre, granted])| Body::VoteReply {
                pre,
                term,
                granted,
                commit,
                commit_term,
            }
        ),
        (counted(), number()).prop_map(|(term, commit)| Body::Heartbeat { term, commit }),
        (counted(), number()).prop_map(|(term, commit)| Body::HeartbeatReply { term, commit }),
        snapshot().prop_map(|snapshot| Body::Snapshot {
            term: snapshot.term,
            snapshot,
        }),
        counted().prop_map(|term| Body::TakeOver { term }),
        Just(Body::WrongDisk),
    ]
}

proptest! {
    #[test]
    fn messages_are_read_as_they_were_written(
        cluster: [u8; 16], from in disk(), to in disk(), body in body()
    ) {
        let message = Message { cluster: ClusterId(cluster), from, to, body };
        let bytes = message.encode();
        prop_assert_eq!(Message::decode(&bytes), Ok(message));
        let cut = Message::decode(&bytes[..bytes.len() - 1]);
        prop_assert!(cut.is_err(), "{cut:?}");
    }

    #[test]
    fn what_is_kept_is_read_as_it_was_written(
        index in counted(), term in counted(), content in content(), snapshot in snapshot(), vote: u64
    ) {
        let entry = Entry { index, term, content };
        prop_assert_eq!(Entry::decode(&entry.encode()), Ok(entry));
        prop_assert_eq!(Snapshot::decode(&snapshot.encode()), Ok(snapshot));
        let promise = Promise { term, vote, commit: index };
        prop_assert_eq!(Promise::decode(&promise.encode()), Ok(promise));
    }

    /// What is read is written the same, and nothing else is read.
    #[test]
    fn bytes_of_nobody_are_read_within_bounds(bytes in vec(0..12_u8, 0..200), any in vec(any::<u8>(), 0..100)) {
        for bytes in [bytes, any] {
            let mut bytes = bytes;
            if let Some(first) = bytes.first_mut() {
                *first = FORMAT;
            }
            if let Ok(message) = Message::decode(&bytes) {
                prop_assert_eq!(Message::decode(&message.encode()), Ok(message));
            }
            let _ = Entry::decode(&bytes);
            let _ = Snapshot::decode(&bytes);
            let _ = Promise::decode(&bytes);
        }
    }
}

#[test]
fn what_the_engine_would_fail_at_is_no_message() {
    let decoded = |body: Body| {
        let message = Message {
            cluster: ClusterId([1; 16]),
            from: DiskId([2; 16]),
            to: DiskId([3; 16]),
            body,
        };
        Message::decode(&message.encode()).map(|_| ())
    };
    let entry = |index, term| Entry {
        index,
        term,
        content: Content::Nothing,
    };
    let append = |before_term, entries| Body::Append {
        term: 5,
        before: 7,
        before_term,
        commit: 1,
        entries,
    };
    assert_eq!(decoded(append(2, vec![entry(8, 2), entry(9, 5)])), Ok(()));
    for entries in [
        vec![entry(9, 2)],
        vec![entry(8, 1)],
        vec![entry(8, 3), entry(9, 2)],
        vec![entry(8, 6)],
    ] {
        assert_eq!(decoded(append(2, entries)), Err(DecodeError::Order));
    }
    assert_eq!(decoded(append(0, Vec::new())), Err(DecodeError::Order));
    let big = MAX_NUMBER + 1;
    let number = Err(DecodeError::Number);
    assert_eq!(decoded(Body::TakeOver { term: 0 }), number);
    assert_eq!(decoded(Body::TakeOver { term: big }), number);
    let twins = [VoterId {
        name: "a".to_owned(),
        disk: DiskId([1; 16]),
    }];
    let mut bytes = vec![FORMAT, 1, 1];
    put_voters(&mut bytes, &[twins.clone(), twins].concat());
    bytes.extend([0, 0]);
    assert_eq!(Snapshot::decode(&bytes), Err(DecodeError::Members));
}
