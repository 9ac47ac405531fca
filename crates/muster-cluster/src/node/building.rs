//! How a node is built: its frameworks are created, and their declarations are collected.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use muster_wire::{EndpointId, Incarnation};

use super::coordination::Coordination;
use super::dispatch::HandlerRef;
use super::feeds::Followers;
use super::framework::{Created, Declared, DeclaredStream, Hook, Registry, Site};
use super::indirect_neighbours::IndirectNeighbours;
use super::log_intake::LogIntake;
use super::node_core::NodeCore;
use super::reach::{Missing, Ways};
use super::{NodeError, NodeLoop, Now};
use crate::layout::Layout;
use crate::settings::AcknowledgeWhen;

impl NodeLoop {
    /// Builds a node of a layout, in the life `id`, which begins now, and runs the `init` of its frameworks.
    ///
    /// # Errors
    /// [`NodeError`] if the layout has no such node, or if the declarations of the frameworks are not valid or
    /// conflict.
    pub fn new(
        layout: &Arc<Layout>,
        name: &str,
        registry: &Registry,
        id: EndpointId,
        incarnation: Incarnation,
        now: Now,
    ) -> Result<Self, NodeError> {
        let node = layout
            .find(name)
            .ok_or_else(|| NodeError::UnknownNode(name.to_owned()))?
            .clone();
        let neighbours = layout.neighbours(&node.name);
        let start_deadline = now
            .mono
            .after(node.settings.duration("runtime.start_deadline"));
        let created = registry.create(&Site {
            layout,
            node: &node,
        });
        let acknowledges_when: AcknowledgeWhen = node.settings.choice("logging.acknowledge");
        let mut this = Self {
            core: NodeCore::new(Arc::clone(layout), node, id, incarnation, now),
            frameworks: Vec::new(),
            handlers: HashMap::new(),
            answerers: HashMap::new(),
            neighbours: neighbours
                .dials
                .into_iter()
                .chain(neighbours.accepts)
                .collect(),
            start_deadline,
            inputs_started: false,
            said_ready: false,
            ready: HashSet::new(),
            released: false,
            announced: BTreeMap::new(),
            waiting_lows: VecDeque::new(),
            grace: Vec::new(),
            stopping: false,
            was_ready: false,
            ways: Ways::default(),
            missing: Missing::default(),
            names: BTreeMap::new(),
            strangers: BTreeMap::new(),
            answered: BTreeMap::new(),
            contests: Vec::new(),
            indirect_neighbours: IndirectNeighbours::default(),
            log_intake: LogIntake::default(),
            waits_for_sync: acknowledges_when == AcknowledgeWhen::Synced,
            is_leaving: false,
            coordination: Coordination::of(layout, now.mono),
            followers: Followers::default(),
        };
        if this.coordination.is_some() {
            let topic = layout.topics().coordination();
            this.core.outbox.subscriptions.push(topic);
        }
        this.join_managers();
        let mut priorities: HashMap<String, Vec<(i32, HandlerRef)>> = HashMap::new();
        for (position, Created { hosted, declared }) in created.into_iter().enumerate() {
            for (handler, (event, priority)) in declared.handlers.iter().enumerate() {
                priorities
                    .entry(event.to_string())
                    .or_default()
                    .push((*priority, (position, handler)));
            }
            for (handler, question) in declared.questions.iter().enumerate() {
                this.declare_answers(question, hosted.name(), (position, handler))?;
            }
            for (handler, (pool, event)) in declared.keyed.iter().enumerate() {
                this.declare_keyed(pool.clone(), event, (position, handler))?;
            }
            for store in declared.stores.iter().filter(|store| store.is_watched) {
                this.core.watch_store(store.name, position);
            }
            this.declare_feeds(&declared, position, layout)?;
            this.declare(declared, position)?;
            this.core.declare_counters(hosted.name(), hosted.counters());
            this.frameworks.push(hosted);
        }
        for (event, mut handlers) in priorities {
            handlers.sort_by_key(|(priority, _)| std::cmp::Reverse(*priority));
            this.handlers.insert(
                event,
                handlers.into_iter().map(|(_, handler)| handler).collect(),
            );
        }
        this.follow_register()?;
        this.core.seal_subscriptions();
        this.hook_all(Hook::Init);
        this.run_local();
        Ok(this)
    }

    /// A framework answers a question, and no other one does.
    fn declare_answers(
        &mut self,
        question: &'static str,
        framework: &'static str,
        handler: HandlerRef,
    ) -> Result<(), NodeError> {
        let Some((first, _)) = self.answerers.insert(question, handler) else {
            return Ok(());
        };
        let first = self.frameworks.get(first);
        Err(NodeError::AnsweredTwice {
            question,
            first: first.map_or(framework, |first| first.name()),
            second: framework,
        })
    }

    fn declare(&mut self, declared: Declared, framework: usize) -> Result<(), NodeError> {
        for (name, ty) in declared.events {
            if self
                .core
                .events
                .get(&name)
                .is_some_and(|known| *known != ty)
            {
                return Err(NodeError::EventConflict(name.into_owned()));
            }
            self.core.events.insert(name, ty);
        }
        for register in declared.registers {
            self.declare_register(register, framework)?;
        }
        for store in declared.stores {
            self.core.declare_store(&store)?;
        }
        for DeclaredStream {
            name,
            ty,
            columns,
            zeek_stream,
        } in declared.streams
        {
            self.core
                .logging
                .logs
                .declare(name, ty, columns?, zeek_stream)?;
        }
        self.core.outbox.subscriptions.extend(declared.topics);
        Ok(())
    }
}
