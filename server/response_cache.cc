#include "server/response_cache.h"

#include <openssl/evp.h>

#include <iterator>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace dla::server {
namespace {

class Sha256 {
 public:
  Sha256() : context_(EVP_MD_CTX_new(), EVP_MD_CTX_free) {
    ok_ = context_ != nullptr && EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) == 1;
  }

  void Add(uint64_t number) {
    uint8_t bytes[8];
    for (int i = 0; i < 8; ++i) bytes[i] = static_cast<uint8_t>(number >> (8 * i));
    Update(bytes, sizeof(bytes));
  }
  // The length first, so that no two sequences of texts give the same bytes.
  void Add(absl::string_view text) {
    Add(uint64_t{text.size()});
    Update(text.data(), text.size());
  }

  absl::StatusOr<ResponseKey> Finish() {
    ResponseKey key;
    unsigned int size = 0;
    ok_ = ok_ && EVP_DigestFinal_ex(context_.get(), key.data(), &size) == 1 && size == key.size();
    if (!ok_) return absl::InternalError("OpenSSL cannot compute SHA-256");
    return key;
  }

 private:
  void Update(const void* bytes, size_t size) {
    ok_ = ok_ && EVP_DigestUpdate(context_.get(), bytes, size) == 1;
  }

  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context_;
  bool ok_;
};

// The heap's own share of an allocation.
constexpr size_t kAllocationBytes = 16;

template <typename T>
size_t BytesOf(const std::vector<T>& values) {
  return values.empty() ? 0 : values.capacity() * sizeof(T) + kAllocationBytes;
}

bool IsOwnFailure(const absl::Status& status) {
  return absl::IsCancelled(status) || absl::IsDeadlineExceeded(status) ||
         absl::IsResourceExhausted(status);
}

Answer FromCache(const Answer& answer) {
  Answer copy = answer;
  copy.timing = {.cached = true};
  return copy;
}

}  // namespace

absl::StatusOr<ResponseKey> ResponseKeyOf(const ServedModel& model, const PhotoSource& photo,
                                          const ClassifyOptions& options) {
  Sha256 hash;
  hash.Add(model.instance());
  hash.Add(model.name());
  hash.Add(model.version());
  hash.Add(static_cast<uint64_t>(options.top_k));
  hash.Add(uint64_t{options.include_embedding} | uint64_t{options.normalize_embedding} << 1 |
           uint64_t{options.include_logits} << 2 | uint64_t{options.include_probabilities} << 3);
  hash.Add(uint64_t{photo.index()});
  if (const auto* encoded = std::get_if<EncodedPhoto>(&photo)) {
    hash.Add(encoded->bytes);
  } else if (const auto* raw = std::get_if<RawPhoto>(&photo)) {
    hash.Add(static_cast<uint64_t>(raw->height));
    hash.Add(static_cast<uint64_t>(raw->width));
    hash.Add(raw->pixels);
  } else {
    hash.Add(std::get<NormalizedPhoto>(photo).values);
  }
  return hash.Finish();
}

ResponseCache::ResponseCache(int64_t max_bytes, Metrics& metrics, Clock& clock)
    : max_bytes_(static_cast<size_t>(max_bytes)), clock_(clock), metrics_(metrics.ForCache()) {
  metrics_->capacity_bytes->Set(static_cast<double>(max_bytes));
}

void ResponseCache::Serve(const ResponseKey& key, ModelMetrics& metrics, PhotoContext context,
                          Compute compute) {
  std::optional<Answer> hit;
  {
    MutexLock lock(mu_);
    if (const auto found = by_key_.find(key); found != by_key_.end()) {
      entries_.splice(entries_.begin(), entries_, found->second);
      hit = FromCache(found->second->answer);
    } else if (const auto [flight, first] = computing_.try_emplace(key); !first) {
      flight->second.push_back({std::move(context), std::move(compute), &metrics});
      return;
    }
  }
  if (hit.has_value()) {
    Reply({std::move(context), std::move(compute), &metrics}, *std::move(hit));
  } else {
    std::move(compute)(Lead(key, metrics, std::move(context)), Turn::kNow);
  }
}

PhotoContext ResponseCache::Lead(const ResponseKey& key, ModelMetrics& metrics,
                                 PhotoContext context) {
  metrics.cache_misses->Increment();
  context.done = [this, key, done = std::move(context.done)](absl::StatusOr<Answer> a) mutable {
    Finish(key, std::move(done), std::move(a));
  };
  return context;
}

void ResponseCache::Reply(Waiter waiter, absl::StatusOr<Answer> answer) {
  { const Compute dropped = std::move(waiter.compute); }
  if (absl::Status status = waiter.context.Abandoned(clock_.Now()); !status.ok()) {
    waiter.metrics->CountAbandoned(status);
    answer = std::move(status);
  } else if (answer.ok()) {
    waiter.metrics->cache_hits->Increment();
  }
  std::move(waiter.context.done)(std::move(answer));
}

void ResponseCache::Finish(const ResponseKey& key, AnswerCallback done,
                           absl::StatusOr<Answer> answer) {
  if (IsOwnFailure(answer.status())) {
    PassOn(key);
    std::move(done)(std::move(answer));
    return;
  }
  std::deque<Waiter> waiters;
  Entries dropped;
  {
    MutexLock lock(mu_);
    const auto flight = computing_.find(key);
    waiters.swap(flight->second);
    computing_.erase(flight);
    if (answer.ok()) Keep(key, *answer, dropped);
  }
  for (Waiter& waiter : waiters) {
    if (answer.ok()) {
      Reply(std::move(waiter), FromCache(*answer));
    } else {
      Reply(std::move(waiter), answer.status());
    }
  }
  std::move(done)(std::move(answer));
}

void ResponseCache::PassOn(const ResponseKey& key) {
  std::deque<Waiter> abandoned;
  std::optional<Waiter> next;
  {
    MutexLock lock(mu_);
    const TimePoint now = clock_.Now();
    const auto flight = computing_.find(key);
    std::deque<Waiter>& waiters = flight->second;
    while (!waiters.empty() && !next.has_value()) {
      if (waiters.front().context.Abandoned(now).ok()) {
        next.emplace(std::move(waiters.front()));
      } else {
        abandoned.push_back(std::move(waiters.front()));
      }
      waiters.pop_front();
    }
    if (!next.has_value()) computing_.erase(flight);
  }
  if (next.has_value()) {
    std::move(next->compute)(Lead(key, *next->metrics, std::move(next->context)), Turn::kLater);
  }
  for (Waiter& waiter : abandoned) {
    Reply(std::move(waiter), absl::CancelledError("the caller cancelled the request"));
  }
}

void ResponseCache::Keep(const ResponseKey& key, const Answer& answer, Entries& dropped) {
  Entries added;
  added.push_back({.key = key, .answer = answer, .bytes = 0});
  const Answer& kept = added.front().answer;
  // The list's links, and two places for each entry in the table, which is half empty at worst.
  added.front().bytes = sizeof(Entry) + 2 * sizeof(void*) + kAllocationBytes +
                        2 * (sizeof(ResponseKey) + sizeof(void*) + 1) + BytesOf(kept.classes) +
                        BytesOf(kept.embedding) + BytesOf(kept.logits) +
                        BytesOf(kept.probabilities);
  const size_t bytes = added.front().bytes;
  if (bytes > max_bytes_) return;
  while (bytes_ + bytes > max_bytes_) {
    bytes_ -= entries_.back().bytes;
    by_key_.erase(entries_.back().key);
    dropped.splice(dropped.begin(), entries_, std::prev(entries_.end()));
    metrics_->evictions->Increment();
  }
  bytes_ += bytes;
  entries_.splice(entries_.begin(), added);
  by_key_.emplace(key, entries_.begin());
  metrics_->bytes->Set(static_cast<double>(bytes_));
  metrics_->entries->Set(static_cast<double>(entries_.size()));
}

}  // namespace dla::server
