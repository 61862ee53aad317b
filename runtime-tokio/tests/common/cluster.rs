//! The built-in Consul with a loaded cluster.

use hax_driver::host::clock::Clock;
use hax_tokio::demo::api::Api;
use hax_tokio::demo::double;
use hax_tokio::demo::setting::Setting;

use super::listener;

/// Starts it on its own thread, as the test's thread may block.
pub(crate) async fn consul() -> (Api, Setting) {
    let (say, address) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        rt.block_on(async {
            let (listener, address) = listener().await;
            say.send(address).unwrap();
            double::serve(listener, "ssu1", Clock::new()).await;
        });
    });
    let consul = Api::new(format!("http://{}", address.await.unwrap()));
    let setting = Setting::load(&consul).await.unwrap();
    (consul, setting)
}
