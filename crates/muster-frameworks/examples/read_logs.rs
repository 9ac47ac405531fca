//! Measures an input: `read_logs [SHARES] FILE...` reads the files once per share, one after the
//! other, as fast as possible.

#![allow(clippy::print_stdout, reason = "an example speaks to its caller")]

use std::error::Error;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use muster_frameworks::log_input::MonotonicClock;
use muster_frameworks::{LogInput, LogInputConfig, Share};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let of = match arguments.first().map(|first| first.parse()) {
        Some(Ok(of)) => {
            arguments.remove(0);
            of
        }
        _ => 1,
    };
    for index in 0..of {
        let config = LogInputConfig {
            files: arguments.iter().map(PathBuf::from).collect(),
            share: Share::new(index, of)?,
            speed: 0.0,
            follow: None,
        };
        let start = Instant::now();
        let mut bytes = 0;
        let input = LogInput::new(&config)?;
        let summary = input.run(&MonotonicClock::new(), &AtomicBool::new(false), |batch| {
            bytes += batch.events().map(<[u8]>::len).sum::<usize>();
            ControlFlow::Continue(())
        });
        let seconds = start.elapsed().as_secs_f64();
        println!("share {index} of {of}: {seconds:.3} s, {bytes} bytes of events, {summary:?}");
    }
    Ok(())
}
