//! Ctrl-C, and a request to terminate: the first ends the measuring, and the report is still
//! written; the second ends the process.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// Whether there was a signal, and which.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicUsize>);

impl Interrupt {
    /// Notes signals from now on.
    ///
    /// # Errors
    /// If the operating system refuses the handlers.
    pub fn listen() -> io::Result<Interrupt> {
        let interrupt = Interrupt::default();
        for signal in [SIGINT, SIGTERM] {
            let again = Arc::new(AtomicBool::new(false));
            // In this order: the first signal finds the flag down, and raises it.
            flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&again))?;
            flag::register(signal, again)?;
            flag::register_usize(signal, Arc::clone(&interrupt.0), signal as usize)?;
        }
        Ok(interrupt)
    }

    /// Whether one came.
    pub fn is_raised(&self) -> bool {
        self.0.load(SeqCst) != 0
    }

    /// The code that a program ended by this signal has by custom: 130 for Ctrl-C.
    pub fn exit_code(&self) -> Option<u8> {
        match self.0.load(SeqCst) {
            0 => None,
            signal => u8::try_from(128 + signal).ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupt_has_the_customary_code() {
        let interrupt = Interrupt::default();
        assert_eq!((interrupt.is_raised(), interrupt.exit_code()), (false, None));
        interrupt.0.store(SIGINT as usize, SeqCst);
        assert_eq!((interrupt.is_raised(), interrupt.exit_code()), (true, Some(130)));
    }
}
