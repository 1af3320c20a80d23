heirloom::context_var! {
    static WRONG_OPTION: u32, inherits = Never;
}

heirloom::context_var! {
    static WRONG_POLICY: u32 = 1, inherit = Sometimes;
}

heirloom::context_var! {
    static TWICE: u32, debug = Debug, debug = Debug;
}

heirloom::context_var! {
    static NO_VALUE: u32, inherit;
}

heirloom::context_var! {
    static NO_TYPE = 7;
}

heirloom::context_var! {
    const NO_STATIC: u32 = 7;
}

heirloom::context_var! {
    static FIRST: u32;
    NO_STATIC_AGAIN: u32;
}

heirloom::context_var! {
    static WIRED_TWICE: u32, wire = "one", wire = Wire::text("two");
}

heirloom::context_var! {
    static NO_NAME: u32, wire;
}

fn main() {}
