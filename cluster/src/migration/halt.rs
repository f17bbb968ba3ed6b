//! Stops moves at a step, so that who tests them can have something happen just there.

use std::path::PathBuf;
use std::sync::OnceLock;

use odeum_proto::moves::Question;
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;

use super::steps::Act;

static FOLDER: OnceLock<PathBuf> = OnceLock::new();

/// The steps before which a move can be stopped, in the order in which a move comes by them: what is
/// behind `give.` at the node that gives an entity away, what is behind `take.` at the other one.
pub const STEPS: [&str; 10] = [
    "give.prepare",
    "take.prepare",
    "give.copy",
    "take.piece",
    "give.freeze",
    "give.send",
    "take.thaw",
    "give.switch",
    "give.finish",
    "take.begin",
];

/// Has each move of this process connect, before a step, to the socket in this folder that is called as
/// the step, if there is one, and go on when that connection ends. The first folder counts.
pub fn by_sockets_in(folder: PathBuf) {
    FOLDER.get_or_init(|| folder);
}

/// Stops before a step of the node that gives an entity away.
pub(super) async fn before_act(act: Act) {
    let step = match act {
        Act::Prepare => "give.prepare",
        Act::Copy => "give.copy",
        Act::Freeze => "give.freeze",
        Act::Send => "give.send",
        Act::Switch => "give.switch",
        Act::Finish(_) => "give.finish",
        Act::CallOff | Act::Retract => return,
    };
    before(step).await;
}

/// Stops before a step of the node that takes it in.
pub(super) async fn before_answer(question: &Question) {
    let step = match question {
        Question::Prepare { .. } => "take.prepare",
        Question::Piece { .. } => "take.piece",
        Question::Thaw { .. } => "take.thaw",
        Question::Begin { .. } => "take.begin",
        Question::Discard { .. } | Question::List => return,
    };
    before(step).await;
}

async fn before(step: &str) {
    let Some(folder) = FOLDER.get() else { return };
    // Nobody listens where nothing is to happen.
    if let Ok(mut stream) = UnixStream::connect(folder.join(step)).await {
        let _ = stream.read(&mut [0; 1]).await;
    }
}
