heirloom::context_var! {
    static TWO_WORDS: String, wire = "two words";
}

heirloom::context_var! {
    static EMPTY: u64, wire = "";
}

heirloom::context_var! {
    static NO_LETTERS: Vec<u8>, wire = Wire::bytes("schlüssel");
}

fn main() {}
