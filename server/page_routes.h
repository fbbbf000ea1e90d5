// The page that a browser shows at /.
#pragma once

namespace httplib {
class Server;
}

namespace dla::server {

// GET / and what it loads from /page/: HTML, style and scripts out of the binary, for everybody,
// with a Content-Security-Policy that lets them load and ask nothing but this server. What the page
// asks then goes through the gate like any request. Browsers keep the files and ask for each
// whether it changed; 304 if not.
void AddPageRoutes(httplib::Server& server);

}  // namespace dla::server
