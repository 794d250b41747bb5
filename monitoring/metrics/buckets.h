// Limits of histograms' buckets: those that dashboards for inference servers expect.
#pragma once

#include <vector>

namespace fulger {

inline const std::vector<double> kFirstTokenSeconds = {
    .001, .005, .01, .02, .04, .06, .08, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560};
inline const std::vector<double> kTokenSeconds = {.01, .025, .05, .075, .1,  .15, .2, .3, .4, .5,
                                                  .75, 1,    2.5, 5,    7.5, 10,  20, 40, 80};
inline const std::vector<double> kRequestSeconds = {.3, .5, .8, 1,  1.5, 2,   2.5, 5,   10,   15,  20,
                                                    30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680};
inline const std::vector<double> kStepTokens = {1,   8,    16,   32,   64,   128,  256,
                                                512, 1024, 2048, 4096, 8192, 16384};

}  // namespace fulger
