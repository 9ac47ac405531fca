//! What `muster run`, `muster agent` and `muster demo` have in common: a fleet from a layout, and the signals.

use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use muster::Exposure;
use muster_agent::{
    Access, Api, ApiError, BoxFile, Boxes, BoxesConfig, Fleet, FleetConfig, IdentityFiles, Launch,
    Lives, MeshConfig, News, PlannedNode, agent_name, is_of_this_machine,
};
use muster_cluster::{Layout, Origin};

use super::agent_client::Target;
use super::init::cluster_name;
use super::node::{tls_by_settings, tls_of_box};
use super::run::ExposureArguments;
use super::this_box::{metrics_token, own_box};
use super::{Home, LoadedLayout, load_text, read_layout};
use crate::log::{self, Speaker};
use crate::output::{Failure, MISCONFIGURED, say, warn};
use crate::signals::{Asked, Signals};

/// How long an answer may take on its way before the program is replaced, or ends.
const LAST_ANSWER: Duration = Duration::from_millis(100);

/// Nodes to run.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) loaded: LoadedLayout,
    /// The layout's file; absolute.
    pub(super) layout_file: PathBuf,
    /// Settings from the command line.
    pub(super) settings: Vec<String>,
    /// What is added to each node's command line.
    pub(super) arguments: Vec<String>,
    /// Below which the standard directories are, if those are used.
    pub(super) root: Option<PathBuf>,
    pub(super) lives: Lives,
    /// What this machine is, if it is a box of a cluster.
    pub(super) own_box: Option<BoxFile>,
    /// Where it may listen without authentication.
    pub(super) exposure: Exposure,
}

impl Job {
    /// The nodes of an agent.
    pub(super) fn of(target: &Target, exposure: Option<&ExposureArguments>) -> Result<Self> {
        let file = &target.layout_file;
        let home = target.root.as_deref().map_or(Home::Layout, Home::Standard);
        Ok(Self {
            loaded: load_text(file, &read_layout(file)?, &[], home)?,
            layout_file: file.clone(),
            settings: Vec::new(),
            arguments: exposure
                .map(ExposureArguments::for_nodes)
                .unwrap_or_default(),
            root: target.root.clone(),
            lives: Lives::Own,
            own_box: match &target.root {
                Some(root) => own_box(root)?,
                None => None,
            },
            exposure: exposure
                .map(ExposureArguments::exposure)
                .unwrap_or_default(),
        })
    }

    /// What a fleet has to run for it.
    pub(super) fn fleet(&self) -> FleetConfig {
        let layout = &self.loaded.layout;
        let nodes = layout.nodes().iter().map(|node| PlannedNode {
            name: node.name.to_string(),
            role: node.role,
            is_here: self.has(node),
        });
        let mut arguments = Vec::new();
        for setting in &self.settings {
            arguments.extend(["--set".to_owned(), setting.clone()]);
        }
        if let Some(root) = &self.root {
            arguments.extend(["--root".to_owned(), root.display().to_string()]);
        }
        if self.own_box.is_some() {
            let identity = IdentityFiles::below(&self.loaded.places.state);
            let directory = identity.directory().display().to_string();
            arguments.extend(["--identity".to_owned(), directory]);
        }
        arguments.extend(self.arguments.iter().cloned());
        let (file, settings, root) = (
            self.layout_file.clone(),
            self.settings.clone(),
            self.root.clone(),
        );
        let own_box = self.own_box.clone();
        let check_layout = move |text: &str| {
            let home = root.as_deref().map_or(Home::Layout, Home::Standard);
            let loaded = load_text(&file, text, &settings, home);
            let loaded = loaded.map_err(|error| error.to_string())?;
            own_box
                .as_ref()
                .map_or(Ok(()), |own| fits(own, &loaded.layout))
        };
        FleetConfig {
            layout: layout.file().to_owned(),
            cluster: Some(layout.settings().text("cluster.name").to_owned())
                .filter(|name| !name.is_empty()),
            nodes: nodes.collect(),
            places: self.loaded.places.clone(),
            launch: Launch {
                layout_file: self.layout_file.clone(),
                check_layout: Box::new(check_layout),
                arguments,
                lives: self.lives,
            },
            keep_past_lives: false,
        }
    }

    /// Whether this machine runs a node.
    fn has(&self, node: &muster_cluster::Node) -> bool {
        match &self.own_box {
            Some(file) => node.box_name == file.name,
            None => is_of_this_machine(node.address),
        }
    }

    /// The other boxes of the cluster, if this machine is one of several.
    fn boxes(&self) -> Result<Option<Boxes>> {
        let Some(file) = &self.own_box else {
            return Ok(None);
        };
        let layout = &self.loaded.layout;
        fits(file, layout).map_err(|problem| {
            Failure::new(problem)
                .hint("/etc/muster/agent.toml says what this box is: made by `muster init` or `muster join`")
                .code(MISCONFIGURED)
        })?;
        let nodes = layout.nodes().iter();
        let boxes = Boxes::open(BoxesConfig {
            file: file.clone(),
            identity: IdentityFiles::below(&self.loaded.places.state),
            boxes: layout.boxes().clone(),
            nodes: nodes
                .map(|node| (node.name.to_string(), node.box_name.clone()))
                .collect(),
            layout_file: self.layout_file.clone(),
            metrics_token: self.root.as_deref().map(metrics_token).unwrap_or_default(),
            mesh: self.place_in_mesh(file),
        });
        let boxes = boxes.map_err(|error| {
            Failure::new(error.to_string())
                .hint("`muster init` and `muster join` make what a box needs")
                .code(MISCONFIGURED)
        })?;
        Ok(Some(boxes))
    }

    /// The place of this box's agent in the mesh.
    fn place_in_mesh(&self, file: &BoxFile) -> Option<MeshConfig> {
        let layout = &self.loaded.layout;
        let settings = layout.settings();
        let tls = if settings.origin("tls.mode") == Origin::Default {
            let identity = IdentityFiles::below(&self.loaded.places.state);
            tls_of_box(&identity, identity.of_box())
        } else {
            tls_by_settings(settings, &self.loaded.base, &agent_name(&file.name))
        };
        let state = &self.loaded.places.state;
        MeshConfig::of(layout, &file.name, tls, self.exposure, state)
    }

    /// Says which nodes are left to other machines.
    ///
    /// # Errors
    ///
    /// Fails if all are.
    fn tell_elsewhere(&self) -> Result<()> {
        let nodes = self.loaded.layout.nodes();
        let elsewhere: Vec<String> = nodes
            .iter()
            .filter(|node| !self.has(node))
            .map(|node| format!("{} ({})", node.name, node.address))
            .collect();
        // A box of a cluster may have no nodes: it is a witness.
        if elsewhere.len() == nodes.len() && self.own_box.is_none() {
            let message = format!(
                "no node of {} is on this machine",
                self.loaded.layout.file()
            );
            return Err(Failure::new(message)
                .hint(format!("its nodes are {}", elsewhere.join(", ")))
                .into());
        }
        if !elsewhere.is_empty() {
            say(&format!("left to other machines: {}", elsewhere.join(", ")));
        }
        Ok(())
    }
}

/// Checks that a layout is of the cluster that a box belongs to, and has the box.
fn fits(own: &BoxFile, layout: &Layout) -> Result<(), String> {
    let cluster = cluster_name(layout);
    if cluster != own.cluster {
        return Err(format!(
            "{}: it is of cluster `{cluster}`, and this box belongs to `{}`",
            layout.file(),
            own.cluster
        ));
    }
    if !layout.boxes().contains_key(&own.name) {
        let boxes: Vec<&str> = layout.boxes().keys().map(String::as_str).collect();
        return Err(format!(
            "{}: it has no box `{}`, which this machine is; its boxes are {}",
            layout.file(),
            own.name,
            boxes.join(", ")
        ));
    }
    Ok(())
}

/// Opens the sockets of a fleet.
async fn open_api(job: &Job, access: Access, fleet: &mut Fleet) -> Result<Api> {
    let boxes = job.boxes()?;
    let opened = Api::open(
        &job.loaded.places,
        access,
        fleet,
        boxes,
        job.loaded.archive.clone(),
    )
    .await;
    opened.map_err(|error| {
        let hint = match &error {
            ApiError::Running(_) => "`muster status` shows it, and `muster stop` stops it",
            ApiError::File { source, .. } if source.kind() == ErrorKind::StorageFull => {
                "make room on the file system of that directory; `df` and `df -i` say what it has"
            }
            _ if job.root.is_some() => "the agent's user needs to write there",
            _ => "set `directory = \"…\"` at the top of the layout to use another one",
        };
        Failure::new(error.to_string()).hint(hint).into()
    })
}

/// Runs the nodes of this machine until somebody stops them. `turned` is called again and again while all is well.
pub(super) async fn supervise(
    job: &Job,
    access: Access,
    started: &str,
    mut turned: impl FnMut(),
) -> Result<ExitCode> {
    let speaker = Speaker {
        node: None,
        box_name: job.own_box.as_ref().map(|file| file.name.clone()),
    };
    let format = job.loaded.layout.settings().choice("log.format");
    log::speak_as(speaker, format);
    let mut fleet = Fleet::new(job.fleet());
    let api = open_api(job, access, &mut fleet).await?;
    job.tell_elsewhere()?;
    let mut signals = Signals::new()?;
    fleet.start_all();
    say(started);
    let mut told_ready = false;
    let mut killed = Vec::new();
    while !fleet.is_done() {
        tokio::select! {
            () = fleet.next() => {}
            signal = signals.next() => {
                if signal == Asked::Reopen {
                    fleet.reopen();
                    if fleet.is_outdated() && let Err(refusal) = fleet.reload() {
                        say(&format!("the program on disk is not this one: {refusal}"));
                    }
                } else if fleet.is_stopping() {
                    say("killing the remaining nodes");
                    killed.extend(fleet.kill_all());
                } else {
                    say("stopping; press Ctrl-C again to kill the remaining nodes");
                    fleet.stop();
                }
            }
        }
        for news in fleet.take_news() {
            if matches!(news, News::Ended(_, Some(_))) {
                told_ready = false;
            }
            tell(&fleet, news);
        }
        if fleet.is_reloading() {
            tokio::time::sleep(LAST_ANSWER).await;
            api.close().await;
            return Err(replace_program(&fleet));
        }
        if fleet.has_failed() {
            return Err(Failure::new("no node can be configured")
                .code(MISCONFIGURED)
                .into());
        }
        if !told_ready && !fleet.is_stopping() && fleet.status().all_ready() {
            told_ready = true;
            say("all nodes are ready");
        }
        turned();
    }
    fleet.say_goodbye();
    tokio::time::sleep(LAST_ANSWER).await;
    api.close().await;
    if killed.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    killed.sort();
    killed.dedup();
    Err(Failure::new(format!(
        "killed {} before it had stopped in an orderly way",
        killed.join(", ")
    ))
    .into())
}

fn tell(fleet: &Fleet, news: News) {
    match news {
        News::Started(name) => say(&format!("{name}: started")),
        News::Adopted(name) => say(&format!("{name}: found running")),
        News::Ended(name, None) => say(&format!("{name}: ended")),
        News::Ended(name, Some(reason)) => warn(&format!(
            "{name}: ended, {reason} (see {})",
            fleet.process_log(&name).display()
        )),
        News::Note(note) => say(&note),
    }
}

/// Has the program that is on disk take the place of this one: with this process id, these children and this command line.
/// Returns only if that fails.
fn replace_program(fleet: &Fleet) -> anyhow::Error {
    let program = fleet.program();
    say(&format!("going on with {}", program.display()));
    let error = std::process::Command::new(&program)
        .args(std::env::args_os().skip(1))
        .exec();
    anyhow::Error::from(error).context(format!("cannot go on with {}", program.display()))
}

/// Stops what an agent left running that is no more, in order.
pub(super) async fn stop_without_agent(job: &Job) -> Result<Vec<String>> {
    let mut fleet = Fleet::new(job.fleet());
    let found = fleet.adopt_running();
    fleet.stop();
    let stopping = async {
        while !fleet.is_done() {
            fleet.next().await;
        }
    };
    tokio::time::timeout(4 * muster_agent::STOP_LIMIT, stopping)
        .await
        .context("the nodes have not stopped")?;
    Ok(found)
}
