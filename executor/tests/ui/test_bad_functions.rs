#[heirloom::test]
fn not_async() {}

#[heirloom::test]
async fn with_arguments(number: u32) {
    drop(number);
}

#[heirloom::test]
async fn generic<T>() {}

#[heirloom::test]
async fn of_any_length<const LENGTH: usize>() {}

#[heirloom::test]
async unsafe fn dangerous() {}

#[heirloom::test]
async extern "C" fn foreign() {}

#[heirloom::test]
async fn where_clause() -> [u8; 2]
where
    u8: Copy,
{
    [0; 2]
}

#[heirloom::test]
async fn arrow_in_brackets<F: Fn(u8) -> (u8, u8)>(function: F) {
    drop(function);
}

#[heirloom::test]
#[test]
async fn twice() {}

#[heirloom::test]
#[cfg_attr(any(), test)]
#[doc = "test"]
#[::core::prelude::v1::test]
async fn test_of_a_path() {}

#[heirloom::test(workers = 0)]
fn several_things_at_once<T>(value: T) {}

fn main() {}
