//! What does each speed mechanism buy? The same sources, each time with one mechanism switched off,
//! beside the whole and beside tokio, in one process and in the same rounds.
//!
//! `variants [ROW ...]` takes the rows and options of the programs `executors` and `net`;
//! `variants load [SCENARIO ...]` takes those of the program `load`.
#![forbid(unsafe_code)]

use std::env;
use std::process::ExitCode;

use heirloom_benches::executor::cli::{self, Summary};
use heirloom_benches::executor::row::{self, Contender};
use heirloom_benches::load::{self, executor::Entry};
use heirloom_benches::net::{self, client};
use heirloom_benches::peers::{Heirloom, Inheriting, Tokio};

/// Per variant a module with its peers, made of the source that the released build's are made of.
macro_rules! variants {
    ($($name:literal $module:ident $package:ident)*) => {
        $(
            #[cfg(feature = $name)]
            #[path = "../../src/peers"]
            mod $module {
                use $package as tested;

                const NAMES: heirloom_benches::peers::Names = heirloom_benches::peers::Names {
                    judged: concat!("heirloom-", $name),
                    bare: concat!("heirloom-", $name, "-bare"),
                };

                #[path = "heirloom.rs"]
                pub(crate) mod peers;
            }
        )*

        /// The variants, in all rows.
        fn contenders() -> Vec<Contender> {
            vec![$(#[cfg(feature = $name)] in_all_rows::<$module::peers::Heirloom<8>>()),*]
        }

        /// The variants, in the load test.
        const ENTRIES: &[Entry] =
            &[$(#[cfg(feature = $name)] Entry::of::<$module::peers::Heirloom<0>>()),*];
    };
}

include!("list.rs");

fn in_all_rows<E: Inheriting>() -> Contender {
    let mut contender = row::inheriting::<E>();
    contender.rows.extend(net::inheriting::<E>().rows);
    contender
}

fn main() -> ExitCode {
    if let Some(code) = client::run_if_asked() {
        return code;
    }
    net::want_descriptors();
    if env::args().nth(1).is_some_and(|first| first == "load") {
        let executors = [load::executor::EXECUTORS, ENTRIES].concat();
        return load::main(&executors, env::args_os().skip(1));
    }
    let mut tokio = row::with_timers::<Tokio<true>>();
    tokio.rows.extend(net::contender::<Tokio<true>>().rows);
    let mut all = vec![in_all_rows::<Heirloom<8>>(), tokio, row::one_core()];
    all.extend(contenders());
    let rows = [row::ROWS, net::ROWS].concat();
    let about = "Measures Heirloom beside itself with one mechanism switched off, round by round.";
    cli::main("variants", about, &rows, all, Summary::Variants)
}
