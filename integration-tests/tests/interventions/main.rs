//! One known cause at a time, then two, on real servers: the right object and cause come first, blame sums to the lag
//! on every tick, and the lag is the age of what the primary had flushed.

use blameio_integration_tests::scene::{Scene, SceneOptions};

mod control;
mod demand;
mod mixed;
mod postgresql_18;
mod reads;
mod rivals;
mod stalls;
mod work;

/// Long enough that the first uncertain second is well below 5 % of the lag.
const LAG: f64 = 6.0;

async fn scene() -> Scene {
    scene_of(SceneOptions::default()).await
}

async fn scene_of(options: SceneOptions) -> Scene {
    let scene = Scene::build(options).await;
    scene.warm_up().await;
    scene
}
