//! Between the engine's types and ours. Its encodings are used nowhere: what it would parse is what it has just written itself.

use muster_wire::bytes::Reader;
use raft::eraftpb::{
    ConfChangeSingle, ConfChangeType, ConfChangeV2, Entry as EngineEntry, EntryType,
    Message as EngineMessage, MessageType, Snapshot as EngineSnapshot,
};

use crate::codec;
use crate::entry::{Content, Entry, Snapshot};
use crate::id::{Members, VoterChange};
use crate::message::{Body, Hint};

/// The mark of a candidate whom the leader has asked to lead.
const HANDED_ON: &[u8] = b"CampaignTransfer";

/// Our words for a change of voters, kept beside the engine's.
pub(crate) fn change_bytes(change: &VoterChange) -> Vec<u8> {
    let mut out = Vec::new();
    codec::put_change(&mut out, change);
    out
}

pub(crate) fn change_in(change: &VoterChange) -> ConfChangeV2 {
    let (kind, number) = match change {
        VoterChange::AddLearner(voter) => (ConfChangeType::AddLearnerNode, voter.disk.number()),
        VoterChange::Promote(disk) => (ConfChangeType::AddNode, disk.number()),
        VoterChange::Remove(disk) => (ConfChangeType::RemoveNode, disk.number()),
    };
    let mut single = ConfChangeSingle::default();
    single.set_change_type(kind);
    single.node_id = number;
    let mut change = ConfChangeV2::default();
    change.set_changes(vec![single].into());
    change
}

pub(crate) fn entry_in(entry: &Entry) -> EngineEntry {
    let mut out = EngineEntry {
        index: entry.index,
        term: entry.term,
        ..EngineEntry::default()
    };
    match &entry.content {
        Content::Nothing => {}
        Content::Data(data) => out.data = data.clone(),
        Content::Change(change) => {
            out.set_entry_type(EntryType::EntryConfChangeV2);
            out.context = change_bytes(change).into();
        }
    }
    out
}

pub(crate) fn entry_out(entry: &EngineEntry) -> Entry {
    let content = match entry.get_entry_type() {
        EntryType::EntryNormal if entry.data.is_empty() => Content::Nothing,
        EntryType::EntryNormal => Content::Data(entry.data.clone()),
        EntryType::EntryConfChange | EntryType::EntryConfChangeV2 => {
            // Written by `change_bytes`, so it can be read.
            codec::change(&mut Reader::new(&entry.context))
                .map_or(Content::Nothing, Content::Change)
        }
    };
    Entry {
        index: entry.index,
        term: entry.term,
        content,
    }
}

fn numbers(members: &[crate::VoterId]) -> Vec<u64> {
    members.iter().map(|member| member.disk.number()).collect()
}

pub(crate) fn snapshot_in(snapshot: &Snapshot) -> EngineSnapshot {
    let mut out = EngineSnapshot::default();
    let members: &Members = &snapshot.members;
    let metadata = out.mut_metadata();
    metadata.index = snapshot.index;
    metadata.term = snapshot.term;
    let conf = metadata.mut_conf_state();
    conf.set_voters(numbers(members.voters()));
    conf.set_learners(numbers(members.learners()));
    // In our encoding: the group's names come with the state.
    out.data = snapshot.encode().into();
    out
}

pub(crate) fn snapshot_out(snapshot: &EngineSnapshot) -> Option<Snapshot> {
    Snapshot::decode(&snapshot.data).ok()
}

/// Makes the engine's message of ours. `WrongDisk` is none of its.
pub(crate) fn message_in(body: Body, from: u64, to: u64) -> Option<EngineMessage> {
    let mut out = EngineMessage {
        from,
        to,
        term: body.term()?,
        ..EngineMessage::default()
    };
    let kind = match body {
        Body::Append {
            before,
            before_term,
            commit,
            entries,
            ..
        } => {
            out.index = before;
            out.log_term = before_term;
            out.commit = commit;
            let entries: Vec<_> = entries.iter().map(entry_in).collect();
            out.set_entries(entries.into());
            MessageType::MsgAppend
        }
        Body::AppendReply {
            index,
            commit,
            rejected,
            ..
        } => {
            out.index = index;
            out.commit = commit;
            if let Some(hint) = rejected {
                out.reject = true;
                out.reject_hint = hint.index;
                out.log_term = hint.term;
            }
            MessageType::MsgAppendResponse
        }
        Body::Vote {
            pre,
            last,
            last_term,
            commit,
            commit_term,
            handed_on,
            ..
        } => {
            out.index = last;
            out.log_term = last_term;
            out.commit = commit;
            out.commit_term = commit_term;
            if handed_on {
                out.context = HANDED_ON.into();
            }
            if pre {
                MessageType::MsgRequestPreVote
            } else {
                MessageType::MsgRequestVote
            }
        }
        Body::VoteReply {
            pre,
            granted,
            commit,
            commit_term,
            ..
        } => {
            out.reject = !granted;
            out.commit = commit;
            out.commit_term = commit_term;
            if pre {
                MessageType::MsgRequestPreVoteResponse
            } else {
                MessageType::MsgRequestVoteResponse
            }
        }
        Body::Heartbeat { commit, .. } => {
            out.commit = commit;
            MessageType::MsgHeartbeat
        }
        Body::HeartbeatReply { commit, .. } => {
            out.commit = commit;
            MessageType::MsgHeartbeatResponse
        }
        Body::Snapshot { snapshot, .. } => {
            out.set_snapshot(snapshot_in(&snapshot));
            MessageType::MsgSnapshot
        }
        Body::TakeOver { .. } => MessageType::MsgTimeoutNow,
        Body::WrongDisk => return None,
    };
    out.set_msg_type(kind);
    Some(out)
}

/// Makes our message of the engine's, if it is one for others.
pub(crate) fn message_out(message: &EngineMessage) -> Option<Body> {
    let term = message.term;
    let commit = message.commit;
    let commit_term = message.commit_term;
    let kind = message.get_msg_type();
    Some(match kind {
        MessageType::MsgAppend => Body::Append {
            term,
            before: message.index,
            before_term: message.log_term,
            commit,
            entries: message.entries.iter().map(entry_out).collect(),
        },
        MessageType::MsgAppendResponse => Body::AppendReply {
            term,
            index: message.index,
            commit,
            rejected: message.reject.then_some(Hint {
                index: message.reject_hint,
                term: message.log_term,
            }),
        },
        MessageType::MsgRequestVote | MessageType::MsgRequestPreVote => Body::Vote {
            pre: kind == MessageType::MsgRequestPreVote,
            term,
            last: message.index,
            last_term: message.log_term,
            commit,
            commit_term,
            handed_on: message.context == HANDED_ON,
        },
        MessageType::MsgRequestVoteResponse | MessageType::MsgRequestPreVoteResponse => {
            Body::VoteReply {
                pre: kind == MessageType::MsgRequestPreVoteResponse,
                term,
                granted: !message.reject,
                commit,
                commit_term,
            }
        }
        MessageType::MsgHeartbeat => Body::Heartbeat { term, commit },
        MessageType::MsgHeartbeatResponse => Body::HeartbeatReply { term, commit },
        MessageType::MsgSnapshot => Body::Snapshot {
            term,
            snapshot: snapshot_out(message.get_snapshot())?,
        },
        MessageType::MsgTimeoutNow => Body::TakeOver { term },
        _ => return None,
    })
}
