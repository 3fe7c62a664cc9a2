//! Compose files: the `image` of every service, merged ones among them, with the variables of the
//! environment (compose-spec, "Interpolation"). A service that is only built has none. `.env` is
//! not read, and neither are the files of `include` and `extends`.

use std::collections::HashSet;

use super::{
    finding::{Findings, Found, Mistake, shown},
    variables,
    yaml::Node,
};

/// The images of the services.
pub(super) fn images(services: &Node, variable: &dyn Fn(&str) -> Option<String>, findings: &mut Findings) {
    let mut seen = HashSet::new();
    for (name, service) in services.all_entries().iter().filter(|(_, service)| seen.insert(service.id())) {
        let Some(image) = service.get("image").filter(|image| !image.is_null()) else { continue };
        let line = image.line();
        let name = shown(name.text().unwrap_or_default());
        findings.push(match image.text() {
            Some(text) => match variables::expand(text, variable) {
                Ok(image) => Ok(Found { line, image }),
                Err(what) => Err(Mistake { line, what: format!("the image of service {name}: {what}") }),
            },
            None => Err(Mistake { line, what: format!("the image of service {name} is no text") }),
        });
    }
}
