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
    type State = &'static str;
    type Guard<'a> = PutBack;

    fn capture(&self, _: &Crossing<'_>) -> Option<&'static str> {
        Some(LOCALE.get())
    }

    fn enter(&self, locale: &mut &'static str) -> PutBack {
        PutBack(LOCALE.replace(*locale))
    }
}
