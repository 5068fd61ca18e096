// runner_cpp MODEL: taille::Runner over a model of images [batch, 3, 8, 8]: futures and callbacks from several threads,
// each of which must get what Model::run gives; and how requests end otherwise. Ends with 0 where all is as it must be.
#include <functional>
#include <iostream>
#include <random>
#include <taille/taille.hpp>
#include <thread>

#include "checks.hpp"

namespace {

using Outputs = taille::Runner::Outputs;

struct Case {
  std::vector<float> image;
  Outputs wanted;
  std::vector<taille::View> inputs() const {
    return {taille::view(image, {static_cast<int64_t>(image.size() / 192), 3, 8, 8})};
  }
};

void require(bool holds, const char* what) {
  if (holds) return;
  std::cout << "not so: " << what << std::endl;
  std::_Exit(1);
}

std::vector<Case> cases_of(const taille::Model& model) {
  std::mt19937 random(1);
  std::vector<Case> out(24);
  for (size_t i = 0; i < out.size(); ++i) {
    out[i].image.resize(192 * (1 + i % 3));
    for (float& pixel : out[i].image) pixel = std::uniform_real_distribution<float>(-1, 1)(random);
    out[i].wanted = model.run(out[i].inputs());
  }
  return out;
}

// Futures, callbacks that own something that can only be moved, and waiting calls.
void ask_for_all(const taille::Runner& runner, const std::vector<Case>& cases) {
  std::vector<std::future<Outputs>> futures;
  std::vector<std::future<bool>> told;
  for (const Case& one : cases) {
    futures.push_back(runner.submit(one.inputs()));
    std::promise<bool> promise;
    told.push_back(promise.get_future());
    runner.submit(one.inputs(), [promise = std::move(promise), &one](std::exception_ptr error, Outputs got) mutable {
      promise.set_value(!error && same(got, one.wanted));
    });
    require(same(runner.run(one.inputs()), one.wanted), "run() gives what Model::run gives");
  }
  for (size_t i = 0; i < cases.size(); ++i) {
    require(same(futures[i].get(), cases[i].wanted), "a future has its own result");
    require(told[i].get(), "a callback gets its own result");
  }
}

// With the only stream held by a callback: what waits is cancelled, refused, or ended by the destructor.
void end_otherwise(const taille::Model& model, const Case& one) {
  std::promise<void> entered, open;
  std::future<Outputs> cancelled, left;
  std::thread opens;
  {
    taille_runner_options options = taille::Runner::defaults(model);
    options.queue_size = 2;
    taille::Runner first(model, options);
    taille::Runner runner = std::move(first);
    runner.submit(one.inputs(), [&](std::exception_ptr, Outputs) {
      entered.set_value();
      open.get_future().wait();
    });
    entered.get_future().wait();
    uint64_t number = 0;
    cancelled = runner.submit(one.inputs(), 0, 1, &number);
    left = runner.submit(one.inputs());
    require(status_of([&] { runner.submit(one.inputs()); }) == TAILLE_QUEUE_FULL, "a full queue is told");
    require(runner.cancel(number) && !runner.cancel(number), "what waits can be cancelled once");
    require(status_of([&] { first.stats(); }) == TAILLE_INVALID_ARGUMENT, "what was moved is empty");
    opens = std::thread([&] {
      left.wait();  // ended by the destructor, which then waits for the callback
      open.set_value();
    });
  }
  opens.join();
  require(status_of([&] { cancelled.get(); }) == TAILLE_CANCELLED, "the future of what was cancelled says so");
  require(status_of([&] { left.get(); }) == TAILLE_CANCELLED, "the destructor cancels what waits");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  auto model = std::make_unique<taille::Model>(argv[1], 1);
  const std::vector<Case> cases = cases_of(*model);
  end_otherwise(*model, cases[0]);
  taille::Runner runner(*model);
  model.reset();  // the runner keeps what it needs
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) threads.emplace_back([&] { ask_for_all(runner, cases); });
  for (std::thread& thread : threads) thread.join();

  const std::function<void(std::exception_ptr, Outputs)> none;
  require(status_of([&] { runner.submit(cases[0].inputs(), none); }) == TAILLE_INVALID_ARGUMENT, "no empty callback");
  require(status_of([&] { runner.submit({}); }) == TAILLE_INVALID_ARGUMENT, "inputs are checked");
  require(status_of([&] { runner.submit(cases[0].inputs(), 1e-9); }) == TAILLE_DEADLINE, "what is too late is told");
  runner.drain();
  require(runner.stats().completed == 4 * 3 * cases.size(), "all were answered");
  require(status_of([&] { runner.submit(cases[0].inputs()); }) == TAILLE_CLOSED, "a drained runner takes nothing");
  runner.close();
  require(status_of([&] { runner.close(); }) == TAILLE_OK && runner.c() == nullptr, "it can be closed again");
  return 0;
}
