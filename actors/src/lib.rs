//! Supervised actors with bounded mailboxes: the embedded library of Odeum.
