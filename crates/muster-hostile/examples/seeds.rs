//! Writes the seeds of every fuzz target: `cargo run -p muster-hostile --example seeds -- fuzz/corpus`.

use std::path::PathBuf;

fn main() -> std::io::Result<()> {
    let corpus = std::env::args_os().nth(1);
    let corpus = PathBuf::from(corpus.unwrap_or_else(|| "fuzz/corpus".into()));
    for target in muster_hostile::TARGETS {
        let directory = corpus.join(target.name);
        std::fs::create_dir_all(&directory)?;
        for (number, seed) in muster_hostile::seeds(target.name).iter().enumerate() {
            std::fs::write(directory.join(format!("seed-{number:04}")), seed)?;
        }
    }
    Ok(())
}
