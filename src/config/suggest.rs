//! The nearest known name to one that is unknown.

/// The one of `known` that `word` most likely meant, if any is near enough: one edit for every
/// three characters, a swap of neighbours being one, case and `-` for `_` being none. Whoever errs twice or
/// more still begins with the right letter: `bearer` is no slip of `header`.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |text: &str| text.to_ascii_lowercase().replace('-', "_");
    let (word, limit) = (plain(word), word.chars().count().div_ceil(3).min(3));
    known
        .into_iter()
        .map(|name| (strsim::osa_distance(&word, &plain(name)), name))
        .filter(|(distance, name)| *distance <= limit && *distance < name.chars().count())
        .filter(|(distance, name)| {
            *distance < 2 || plain(name).chars().next() == word.chars().next()
        })
        .min()
        .map(|(_, name)| name)
}

/// The hint for an unknown name: the nearest one, and all there are as `what` (``upstreams
/// here``); few enough to be read.
pub fn did_you_mean<'a>(
    word: &str,
    what: &str,
    known: impl IntoIterator<Item = &'a str> + Clone,
) -> String {
    const MOST: usize = 40;
    let nearest = nearest(word, known.clone());
    let mut names: Vec<_> = known.into_iter().collect();
    let more = names.len().saturating_sub(MOST);
    names.truncate(MOST);
    let mut list = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    if more > 0 {
        list = format!("{list} and {more} more");
    }
    match nearest {
        Some(name) => format!("did you mean `{name}`? {what}: {list}"),
        None => format!("{what}: {list}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_name_and_another_word_none() {
        let known = ["graph", "arm", "strip_prefix"];
        assert_eq!(nearest("grpah", known), Some("graph"));
        assert_eq!(nearest("strip-prefix", known), Some("strip_prefix"));
        assert_eq!(nearest("Graph", known), Some("graph"));
        assert_eq!(nearest("storage", known), None);
        assert_eq!(nearest("bearer", ["header"]), None);
        assert_eq!(nearest("haedr", ["header"]), Some("header"));
        assert_eq!(nearest("x", known), None);
    }

    #[test]
    fn the_hint_lists_what_there_is() {
        assert_eq!(
            did_you_mean("grpah", "upstreams here", ["arm", "graph"]),
            "did you mean `graph`? upstreams here: arm, graph"
        );
        assert_eq!(did_you_mean("x", "upstreams here", []), "upstreams here: none");
    }
}
