//! The README shows the current state machine.

use campaign_domain::lifecycle::diagram;

const BEGIN: &str = "<!-- diagram -->\n";
const END: &str = "<!-- end of diagram -->";

#[test]
fn the_readme_shows_the_state_machine() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md");
    let readme = std::fs::read_to_string(path).expect("README.md");
    let (before, rest) = readme.split_once(BEGIN).expect("the mark where the diagram begins");
    let (shown, after) = rest.split_once(END).expect("the mark where it ends");
    let wanted = format!("```mermaid\n{}```\n", diagram());
    if std::env::var_os("UPDATE_README").is_some() {
        std::fs::write(path, format!("{before}{BEGIN}{wanted}{END}{after}")).expect("README.md");
        return;
    }
    assert_eq!(shown, wanted, "run `UPDATE_README=1 cargo test -p campaign-domain`");
}
