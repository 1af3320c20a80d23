//! A script of context operations, in any order and nesting, played on real contexts and on a model
//! of them. After every operation both show the same, and after every block exactly the values that
//! something can still reach are alive.
#![no_main]

mod model;
mod script;
mod value;

use arbitrary::{Arbitrary, Unstructured};
use libfuzzer_sys::fuzz_target;

/// Numbers choose a variable, or one of what there is at the time.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Op {
    Set(u8),
    SetHolding(u8, u8),
    SetMany(u8, u8),
    Unset(u8),
    UnsetMany(u8, u8),
    Bind(u8),
    DropGuard(u8),
    Reset(u8),
    ResetOther(u8),
    DropToken(u8),
    Snapshot,
    Inherited,
    With(u8, u8),
    Without(u8, u8),
    DropSnapshot(u8),
    DropElsewhere(u8),
    Compare(u8, u8),
    MakeCell(u8),
    MakeLive(u8),
    MakeIsolated,
    MakePinned(u8),
    MakeScoped(u8),
    DropPlace(u8),
    // These begin a block, which `Leave` ends.
    Borrow(u8),
    Scope(u8),
    Run(u8),
    Enter(u8),
    EnterElsewhere(u8),
    Leave,
}

/// As many as the input has bytes for.
#[derive(Debug)]
struct Ops(Vec<Op>);

impl<'a> Arbitrary<'a> for Ops {
    fn arbitrary(bytes: &mut Unstructured<'a>) -> arbitrary::Result<Ops> {
        let mut ops = Vec::new();
        while !bytes.is_empty() {
            ops.push(bytes.arbitrary()?);
        }
        Ok(Ops(ops))
    }
}

fuzz_target!(|ops: Ops| script::play(ops.0));
