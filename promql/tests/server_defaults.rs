//! Prometheus's scripts under the defaults of a server. They are written for an engine with everything switched on, so
//! some expectations cannot hold; `server_defaults.txt` lists each of those with the switches that it needs.
//!
//! A line is `file:line switch...`; a switch is named like the server's feature. The list is wrong, and the test fails,
//! where an evaluation fails that is not on it, where one on it passes, and where turning off a single switch makes
//! other evaluations fail than those that name it.

mod script_files;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use pilaster_promql::engine::{Engine, EngineOptions};
use pilaster_promql::promqltest::{MemoryWorld, engine_options, run};
use script_files::prometheus_scripts;

type TurnOff = fn(&mut EngineOptions);

/// What the scripts' engine has on and a server has off.
const SWITCHES: [(&str, TurnOff); 5] = [
    ("promql-experimental-functions", |options| options.parse.experimental_functions = false),
    ("promql-extended-range-selectors", |options| options.parse.extended_range_selectors = false),
    ("promql-binop-fill-modifiers", |options| options.parse.fill_modifiers = false),
    ("promql-delayed-name-removal", |options| options.delayed_name_removal = false),
    ("use-start-timestamps", |options| options.start_timestamps = false),
];

/// A script and a line in it.
type Place = (String, usize);

/// The evaluations that fail.
fn failing(paths: &[PathBuf], options: EngineOptions) -> BTreeSet<Place> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_stack_size(8 << 20)
        .build()
        .expect("a runtime");
    let engine = Arc::new(Engine::new(options));
    let mut places = BTreeSet::new();
    for path in paths {
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(path).expect("a script");
        let report = runtime.block_on(run(&file, &text, &engine, &mut MemoryWorld::default()));
        places.extend(report.failures.iter().map(|failure| (file.clone(), failure.line)));
    }
    places
}

fn listed(text: &str) -> BTreeMap<Place, BTreeSet<&str>> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let mut words = line.split(' ');
            let (file, number) = words.next().and_then(|place| place.split_once(':')).expect("file:line");
            ((file.to_owned(), number.parse().expect("a line number")), words.collect())
        })
        .collect()
}

#[test]
fn scripts_under_server_defaults_differ_where_a_switch_is_off() {
    let Some(paths) = prometheus_scripts() else {
        return;
    };
    let mut needed: BTreeMap<Place, BTreeSet<&str>> = BTreeMap::new();
    let paths = &paths;
    let (defaults, without) = std::thread::scope(|scope| {
        let without = SWITCHES.map(|(name, turn_off)| {
            let mut options = engine_options();
            turn_off(&mut options);
            (name, scope.spawn(move || failing(paths, options)))
        });
        let defaults = failing(paths, EngineOptions::default());
        (defaults, without.map(|(name, run)| (name, run.join().expect("a run"))))
    });
    for (name, places) in without {
        for place in places {
            needed.entry(place).or_default().insert(name);
        }
    }
    let text: String = needed
        .iter()
        .map(|((file, line), switches)| {
            format!("{file}:{line} {}\n", switches.iter().copied().collect::<Vec<_>>().join(" "))
        })
        .collect();
    if let Ok(path) = std::env::var("SERVER_DEFAULTS_LIST") {
        std::fs::write(path, &text).expect("a writable list");
    }
    let unexplained: Vec<&Place> = defaults.iter().filter(|place| !needed.contains_key(place)).collect();
    assert!(unexplained.is_empty(), "no single switch explains {unexplained:?}");
    let passing: Vec<&Place> = needed.keys().filter(|place| !defaults.contains(place)).collect();
    assert!(passing.is_empty(), "all switches off, yet these pass: {passing:?}");
    let known = listed(include_str!("server_defaults.txt"));
    let differs = |place: &&Place| needed.get(*place) != known.get(*place);
    let wrong: Vec<&Place> = needed.keys().chain(known.keys()).filter(differs).collect();
    assert!(wrong.is_empty(), "server_defaults.txt is wrong about {wrong:?}");
}
