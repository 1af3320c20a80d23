thread_local! {
    static LOCALE: Cell<&'static str> = const { Cell::new("en") };
}

struct Locale;

/// Puts the locale back, also when the task panics.
struct PutBack(&'static str);

impl Drop for PutBack {
    fn drop(&mut self) {
        LOCALE.set(self.0);
    }
}

impl Ambient for Locale {
    fn capture(&self) -> Captured {
        Box::new(LOCALE.get())
    }

    fn around(&self, captured: &Captured, f: &mut dyn FnMut()) {
        let captured = captured.downcast_ref::<&str>().expect("what `capture` returns");
        let _put_back = PutBack(LOCALE.replace(captured));
        f();
    }
}
