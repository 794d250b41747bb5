// Routes of the page at `/`: a chat with the model and a view of the cluster. Static files only; all that the
// page knows it asks the API for, with the visitor's own key.
#pragma once

#include "coordinator/api/http.h"

namespace fulger {

// GET / is the page, GET /page/... its parts. Browsers keep them and ask each time whether they are still
// true (ETag), so a new server never runs beside an old page.
void RegisterPage(Router* router);

}  // namespace fulger
