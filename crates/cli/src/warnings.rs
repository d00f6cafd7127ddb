//! What this machine lacks: said once, whether it is known before the start or found out later.

use std::collections::BTreeSet;

use tektite_node::{Degraded, Lack};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::diagnostic::{self, Diagnostic};
use crate::terminal::{Terminal, print_error};

/// Hears from a node and forgets what was said before.
#[derive(Debug)]
pub struct Warnings {
    told: BTreeSet<Lack>,
    found: UnboundedReceiver<Degraded>,
}

impl Warnings {
    /// What the node is to tell, and who hears it. What is known beforehand has been said already.
    pub fn channel(known: &[Degraded]) -> (UnboundedSender<Degraded>, Self) {
        let (sender, found) = unbounded_channel();
        let told = known.iter().map(|degraded| degraded.lack).collect();
        (sender, Self { told, found })
    }

    /// The next thing to say; never, if nobody is there to find any more. Safe to cancel.
    pub async fn next(&mut self) -> Degraded {
        loop {
            match self.found.recv().await {
                Some(degraded) if self.told.insert(degraded.lack) => return degraded,
                Some(_) => {}
                None => std::future::pending().await,
            }
        }
    }

    /// Says what has been found and not been said yet.
    pub fn say_rest(&mut self) {
        while let Ok(degraded) = self.found.try_recv() {
            if self.told.insert(degraded.lack) {
                say(&[degraded]);
            }
        }
    }
}

/// One warning on standard error for everything that does not work as usual.
pub fn say(degraded: &[Degraded]) {
    if degraded.is_empty() {
        return;
    }
    let texts: Vec<&str> = degraded.iter().map(|one| one.text.as_str()).collect();
    let message = format!("containers are restricted here: {}", texts.join("; "));
    let look = Terminal::stderr().look();
    print_error(&diagnostic::render(&[Diagnostic::warning(message)], look));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_lack_is_said_once_whenever_it_is_found() {
        let degraded = |lack, text: &str| Degraded {
            lack,
            text: text.to_owned(),
        };
        let (node, mut warnings) = Warnings::channel(&[degraded(Lack::Network, "known before")]);
        for (lack, text) in [
            (Lack::Network, "again"),
            (Lack::Limits, "first"),
            (Lack::Limits, "second"),
            (Lack::Users, "other"),
        ] {
            node.send(degraded(lack, text)).expect("somebody hears");
        }
        assert_eq!(warnings.next().await.text, "first");
        assert_eq!(warnings.next().await.text, "other");
        assert!(warnings.found.try_recv().is_err());
    }
}
