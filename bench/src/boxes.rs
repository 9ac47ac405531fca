//! Boxes on one machine: a network namespace each, on a bridge, with a root directory and a control group of its own, and if
//! that is wanted a file system. Whatever ends this process, they are taken down.

mod cgroup;
mod disk;
mod network;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use self::cgroup::Group;
use self::disk::Disk;
pub use self::network::Network;

/// What takes boxes down once its input ends: it outlives whoever has made them.
///
/// Its arguments are the bridge, and for each box the namespace, the control group and the directory. What is frozen cannot be
/// killed, and a file system that hangs cannot be left. What ends all of a terminal's processes does not end it.
const UNDO: &str = "trap '' INT TERM HUP
cat > /dev/null
bridge=\"$0\"
while [ $# -ge 3 ]; do
    space=\"$1\" group=\"$2\" root=\"$3\"; shift 3
    fsfreeze --unfreeze \"$root\" 2>/dev/null
    echo THAWED 2>/dev/null > \"$group/freezer.state\" || echo 0 2>/dev/null > \"$group/cgroup.freeze\"
    for process in $(cat \"$group/cgroup.procs\" 2>/dev/null) $(ip netns pids \"$space\" 2>/dev/null); do
        kill -9 \"$process\" 2>/dev/null
    done
    ip netns del \"$space\" 2>/dev/null
    tries=0
    while ! rmdir \"$group\" 2>/dev/null && [ -d \"$group\" ] && [ $tries -lt 50 ]; do tries=$((tries + 1)); sleep 0.1; done
    umount --lazy \"$root\" 2>/dev/null
done
ip link del \"$bridge\" 2>/dev/null";

/// Boxes that were made.
#[derive(Debug)]
pub struct Boxes {
    boxes: Vec<BoxOfOne>,
    program: PathBuf,
    directory: PathBuf,
    undo: Child,
}

/// What a box has of its own besides its network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Equipment {
    /// The size of its file system in MiB; if there is none, it has a directory of this machine's.
    pub disk: Option<u64>,
}

/// One box.
#[derive(Debug, Clone)]
pub struct BoxOfOne {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: Ipv4Addr,
    /// The root of its standard directories.
    pub root: PathBuf,
    space: String,
    group: Group,
    disk: Option<Disk>,
}

/// What is missing for boxes to be made, if anything is.
#[must_use]
pub fn missing(equipment: Equipment) -> Option<String> {
    let id = run(Command::new("id").arg("-u"));
    if id.is_none_or(|id| id.trim() != "0") {
        return Some("root is needed: boxes are network namespaces".to_owned());
    }
    if run(Command::new("ip").arg("-V")).is_none() {
        return Some("the program ip is needed (Debian: apt-get install iproute2)".to_owned());
    }
    if equipment.disk.is_some() {
        for (program, package) in [
            ("nft", "nftables"),
            ("mkfs.ext4", "e2fsprogs"),
            ("fsfreeze", "util-linux"),
        ] {
            if run(Command::new("sh").args(["-c", "command -v \"$0\"", program])).is_none() {
                return Some(format!(
                    "the program {program} is needed (Debian: apt-get install {package})"
                ));
            }
        }
    }
    let probe = format!("muster-probe-{}", std::process::id());
    let group = Group::called(&probe);
    let may_group = group.make().is_ok();
    let _ = std::fs::remove_dir(group.path());
    if !may_group {
        return Some("control groups cannot be made here".to_owned());
    }
    let may = run(Command::new("ip").args(["netns", "add", &probe])).is_some();
    let may_filter = may && network::set(&probe, Network::Cut).is_ok();
    run(Command::new("ip").args(["netns", "del", &probe]));
    if !may {
        return Some("network namespaces cannot be made here".to_owned());
    }
    equipment.disk?;
    if !may_filter {
        return Some("nft cannot filter here".to_owned());
    }
    let at = std::env::temp_dir().join(&probe);
    let may_mount = Disk::make(&at, 4).is_ok();
    run(Command::new("umount").arg(&at));
    let _ = std::fs::remove_file(at.with_extension("ext4"));
    let _ = std::fs::remove_dir(&at);
    (!may_mount).then(|| "file systems cannot be mounted here".to_owned())
}

fn run(command: &mut Command) -> Option<String> {
    let output = command.stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    output.status.success().then_some(text)
}

fn done(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    if !output.status.success() {
        bail!(
            "{command:?}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

fn ip(arguments: &[&str]) -> Result<()> {
    done(Command::new("ip").args(arguments))
}

impl Boxes {
    /// Makes boxes with these names. `program` is copied into each.
    ///
    /// # Errors
    ///
    /// Fails if the system refuses; what was made is taken down.
    pub fn make(
        names: &[&str],
        program: &Path,
        directory: &Path,
        equipment: Equipment,
    ) -> Result<Self> {
        let process = std::process::id();
        // An interface's name has 15 characters at most.
        let bridge = format!("mb{process}");
        let space = |name: &str| format!("muster-{process}-{name}");
        let groups: Vec<Group> = names
            .iter()
            .map(|name| Group::called(&space(name)))
            .collect();
        let mut undo = Command::new("sh");
        undo.arg("-c").arg(UNDO).arg(&bridge);
        for (name, group) in names.iter().zip(&groups) {
            undo.arg(space(name))
                .arg(group.path())
                .arg(directory.join(name));
        }
        let undo = undo
            .stdin(Stdio::piped())
            .spawn()
            .context("cannot start sh")?;
        let mut made = Self {
            boxes: Vec::new(),
            program: program.to_owned(),
            directory: directory.to_owned(),
            undo,
        };
        ip(&["link", "add", &bridge, "type", "bridge"])?;
        ip(&["link", "set", &bridge, "up"])?;
        for (number, (name, group)) in names.iter().zip(groups).enumerate() {
            let wired = made.wire(u8::try_from(number + 1)?, &bridge, &space(name))?;
            made.add(name, wired, space(name), group, equipment)?;
        }
        Ok(made)
    }

    /// Makes the network of a box, and returns its address.
    #[allow(clippy::unused_self, reason = "what is made is taken down with this")]
    fn wire(&self, number: u8, bridge: &str, space: &str) -> Result<Ipv4Addr> {
        let process = std::process::id();
        let (outer, inner) = (
            format!("mo{number}x{process}"),
            format!("mi{number}x{process}"),
        );
        let address = Ipv4Addr::new(10, 77, 0, number);
        ip(&["netns", "add", space])?;
        ip(&[
            "link", "add", &outer, "type", "veth", "peer", "name", &inner,
        ])?;
        ip(&["link", "set", &outer, "master", bridge, "up"])?;
        ip(&["link", "set", &inner, "netns", space, "name", "eth0"])?;
        let within = |arguments: &[&str]| ip(&[&["-n", space], arguments].concat());
        within(&["addr", "add", &format!("{address}/24"), "dev", "eth0"])?;
        within(&["link", "set", "eth0", "up"])?;
        within(&["link", "set", "lo", "up"])?;
        Ok(address)
    }

    fn add(
        &mut self,
        name: &str,
        address: Ipv4Addr,
        space: String,
        group: Group,
        equipment: Equipment,
    ) -> Result<()> {
        group.make()?;
        let root = self.directory.join(name);
        std::fs::create_dir_all(&root)?;
        let disk = equipment
            .disk
            .map(|size| Disk::make(&root, size))
            .transpose()?;
        let made = BoxOfOne {
            name: name.to_owned(),
            address,
            root,
            space,
            group,
            disk,
        };
        std::fs::copy(&self.program, made.program())?;
        self.boxes.push(made);
        Ok(())
    }

    /// Returns a box.
    ///
    /// # Errors
    ///
    /// Fails if there is none of this name.
    pub fn get(&self, name: &str) -> Result<&BoxOfOne> {
        let mut boxes = self.boxes.iter();
        let found = boxes.find(|made| made.name == name);
        found.with_context(|| format!("there is no box {name}"))
    }

    /// Returns all of them.
    pub fn iter(&self) -> impl Iterator<Item = &BoxOfOne> {
        self.boxes.iter()
    }

    /// Copies what is on the disks of boxes, which go with them, to `disks` in the boxes' directory.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be copied.
    pub fn keep_disks(&self) -> Result<()> {
        let kept = self.directory.join("disks");
        for made in self.boxes.iter().filter(|made| made.disk.is_some()) {
            std::fs::create_dir_all(&kept)?;
            let to = kept.join(&made.name);
            done(Command::new("cp").arg("-a").arg(&made.root).arg(to))?;
        }
        Ok(())
    }

    /// The directory that the boxes' roots are in.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

impl Drop for Boxes {
    fn drop(&mut self) {
        drop(self.undo.stdin.take());
        let _ = self.undo.wait();
    }
}

impl BoxOfOne {
    /// Returns the same box with another root, as if its disk were new.
    #[must_use]
    pub fn with_root(&self, root: PathBuf) -> Self {
        Self {
            root,
            ..self.clone()
        }
    }

    /// The program of the box.
    #[must_use]
    pub fn program(&self) -> PathBuf {
        // Beside the root, which may be a small disk.
        self.root.with_extension("program")
    }

    /// Returns a command on the box.
    #[must_use]
    pub fn command(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new("sh");
        // In the group before anything else, so that all that it starts is there as well.
        command
            .args(["-c", "echo 0 > \"$0\" && exec \"$@\""])
            .arg(self.group.entrance())
            .args(["ip", "netns", "exec", &self.space])
            .arg(program)
            .args(arguments)
            .env("MUSTER_ROOT", &self.root)
            .stdin(Stdio::null());
        command
    }

    /// Returns a command in the box's network that is not among its processes: faults leave it alone.
    #[must_use]
    pub fn outsider(&self, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.space]).arg(program);
        command
    }

    /// Kills all processes of the box.
    ///
    /// # Errors
    ///
    /// Fails if the system does not tell which they are.
    pub fn kill_all(&self) -> Result<()> {
        // One may start another before it is killed itself.
        loop {
            let processes = self.group.processes()?;
            if processes.is_empty() {
                return Ok(());
            }
            for process in processes {
                let _ = kill_process(process);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Stops all processes of the box for a while, or has them go on.
    ///
    /// # Errors
    ///
    /// Fails if the system refuses.
    pub fn set_frozen(&self, is_frozen: bool) -> Result<()> {
        self.group.set_frozen(is_frozen)
    }

    /// Fills the box's file system, or makes room again.
    ///
    /// # Errors
    ///
    /// Fails if it has none of its own.
    pub fn set_full(&self, is_full: bool) -> Result<()> {
        let disk = self.disk.as_ref().context("the box has no disk")?;
        if is_full { disk.fill() } else { disk.empty() }
    }

    /// Has whoever writes to the box's file system hang, or go on.
    ///
    /// # Errors
    ///
    /// Fails if it has none of its own.
    pub fn set_hung(&self, hangs: bool) -> Result<()> {
        let disk = self.disk.as_ref().context("the box has no disk")?;
        disk.set_hung(hangs)
    }

    /// Has the box's network do this, and no longer what it was to do before.
    ///
    /// # Errors
    ///
    /// Fails if the system refuses.
    pub fn set_network(&self, network: Network) -> Result<()> {
        network::set(&self.space, network)
    }

    /// Runs the box's program to its end.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be started.
    pub fn run(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = self.command(&self.program(), arguments);
        command.output().with_context(|| format!("{command:?}"))
    }

    /// Runs the box's program, and returns what it says if it ends with an exit code.
    ///
    /// # Errors
    ///
    /// Fails if it ends with another one.
    pub fn ends_with(&self, code: i32, arguments: &[&str]) -> Result<String> {
        let output = self.run(arguments)?;
        let (out, talk) = (
            String::from_utf8_lossy(&output.stdout).into_owned(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        );
        if output.status.code() != Some(code) {
            bail!(
                "box {}: muster {} ended with {:?} instead of {code}:\n{out}{talk}",
                self.name,
                arguments.join(" "),
                output.status.code()
            );
        }
        Ok(if out.is_empty() { talk } else { out })
    }

    /// Starts the box's agent. What it says goes to a file in its root.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be started.
    pub fn agent(&self) -> Result<Child> {
        self.agent_with(&[])
    }

    /// Starts the box's agent with these variables in its environment.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be started.
    pub fn agent_with(&self, variables: &[(&str, &str)]) -> Result<Child> {
        let file = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.root.join("agent.out"))?;
        let mut command = self.command(&self.program(), &["agent"]);
        command.envs(variables.iter().copied());
        let agent = command.stdout(Stdio::null()).stderr(file).spawn();
        agent.with_context(|| format!("{command:?}"))
    }

    /// The state of the cluster, as this box tells it.
    ///
    /// # Errors
    ///
    /// Fails if its agent does not answer.
    pub fn status(&self) -> Result<Value> {
        let output = self.run(&["status", "--format", "json"])?;
        serde_json::from_slice(&output.stdout).with_context(|| {
            format!(
                "box {}: {}",
                self.name,
                String::from_utf8_lossy(&output.stderr)
            )
        })
    }

    /// Sends nothing to another box any more, or sends to it again.
    ///
    /// # Errors
    ///
    /// Fails if the system refuses.
    pub fn set_way_to(&self, other: &Self, is_open: bool) -> Result<()> {
        let verb = if is_open { "del" } else { "add" };
        let to = other.address.to_string();
        ip(&["-n", &self.space, "route", verb, "blackhole", &to])
    }

    /// Cuts the box off from the others, or brings it back.
    ///
    /// # Errors
    ///
    /// Fails if the system refuses.
    pub fn set_link(&self, state: &str) -> Result<()> {
        ip(&["-n", &self.space, "link", "set", "eth0", state])
    }
}

/// Kills a process.
///
/// # Errors
///
/// Fails if there is none.
pub fn kill_process(process: u32) -> Result<()> {
    done(Command::new("kill").args(["-9", &process.to_string()]))
}

/// Waits until something is so.
///
/// # Errors
///
/// Fails if it is not within 30 s.
pub fn until<T>(what: &str, mut found: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(found) = found()? {
            return Ok(found);
        }
        if Instant::now() >= end {
            bail!("{what}: not within 30 s");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
