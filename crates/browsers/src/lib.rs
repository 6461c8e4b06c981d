//! The browser pool: sessions of real browsers, their health, and the page that runs a model in them.
