// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The godwit authors

// A C++ program of many threads, as a subject (subject.h): a ring that passes tokens under mutexes and condition
// variables, a pool that throws and catches exceptions, futures, thread-local state, and floating point sums that
// must come out to the bit.
#include <atomic>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <future>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "subject.h"

namespace
{

constexpr int ring_size = 100;
constexpr int thrower_count = 50;
constexpr int sum_count = 20;

std::atomic<bool> is_ending;
std::atomic<long> wrong;

// Each place hands the token to the next one, which must get it with a number one higher.
class Ring
{
public:
	void run(int place)
	{
		std::unique_lock<std::mutex> lock(mutex_);
		for (;;) {
			changed_[place].wait(lock, [&] { return at_ == place || is_ending; });
			if (is_ending)
				return;
			if (passes_ % ring_size != place)
				wrong++;
			passes_++;
			at_ = (place + 1) % ring_size;
			changed_[at_].notify_one();
			lock.unlock();
			std::this_thread::sleep_for(std::chrono::microseconds(200));
			lock.lock();
		}
	}
	void end()
	{
		std::lock_guard<std::mutex> lock(mutex_);
		is_ending = true;
		for (auto &condition : changed_)
			condition.notify_all();
	}
	long passes()
	{
		std::lock_guard<std::mutex> lock(mutex_);
		return passes_;
	}

private:
	std::mutex mutex_;
	std::condition_variable changed_[ring_size];
	int at_ = 0;
	long passes_ = 0;
};

thread_local std::string own_name = "nobody";

void throw_and_catch(int number)
{
	own_name = "thrower " + std::to_string(number);
	while (!is_ending) {
		try {
			auto owned = std::make_unique<std::string>(own_name);
			throw std::runtime_error(*owned);
		} catch (const std::exception &error) {
			if ("thrower " + std::to_string(number) != error.what() || own_name != error.what())
				wrong++;
		}
		std::this_thread::sleep_for(std::chrono::milliseconds(3));
	}
}

double sum(int number)
{
	double result = 0;
	for (int i = 1; i < 20000; i++)
		result += std::sin(number * 1e-3 * i) / i;
	return result;
}

void sum_again(int number)
{
	const double first = sum(number);
	while (!is_ending) {
		if (std::async(std::launch::async, sum, number).get() != first)
			wrong++;
		std::this_thread::sleep_for(std::chrono::milliseconds(20));
	}
}

} // namespace

int main(int argc, char **argv)
{
	struct subject subject = subject_begin(argc, argv);
	Ring ring;
	std::vector<std::thread> threads;

	for (int i = 0; i < ring_size; i++)
		threads.emplace_back(&Ring::run, &ring, i);
	for (int i = 0; i < thrower_count; i++)
		threads.emplace_back(throw_and_catch, i);
	for (int i = 0; i < sum_count; i++)
		threads.emplace_back(sum_again, i);

	subject_ready(&subject);

	const long passes = ring.passes();
	for (int i = 0; i < 3000 && ring.passes() < passes + 2 * ring_size; i++)
		std::this_thread::sleep_for(std::chrono::milliseconds(10));
	const bool goes_on = ring.passes() >= passes + 2 * ring_size;
	ring.end();
	for (auto &thread : threads)
		thread.join();
	if (!goes_on)
		subject_fail(&subject, "the ring does not go on");
	if (wrong != 0)
		subject_fail(&subject, "%ld checks were wrong", wrong.load());
	return subject_pass(&subject);
}
