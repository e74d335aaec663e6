//! Lists, page by page.

use crate::args::PageArgs;
use crate::failure::Failure;
use crate::printing::Printer;
use crate::show::Show;

/// Prints the requested page, or all pages from there on. `fetch` gets a page by its size and token.
/// `next` is the field in which a page names the one after it.
pub async fn print<M: Show>(
    printer: &Printer,
    page: PageArgs,
    fetch: impl AsyncFn(i32, String) -> Result<M, Failure>,
    next: fn(&mut M) -> &mut String,
) -> Result<(), Failure> {
    let PageArgs { page_size, mut page_token, all } = page;
    loop {
        let mut answer = fetch(page_size, page_token).await?;
        // The loop prints the next page itself, so the reader gets no token for it.
        page_token = if all { std::mem::take(next(&mut answer)) } else { String::new() };
        printer.answer(&answer)?;
        if page_token.is_empty() {
            return Ok(());
        }
    }
}
