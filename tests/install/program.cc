// The same in C++: the header between others, the library's functions under exceptions and in threads.
#include <cstring>
#include <ermfs.h>
#include <iostream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace {

class File {
public:
    File(const std::string &path, int flags) : fd_(ermfs_open(path.c_str(), flags, 0644))
    {
        if (fd_ < 0)
            throw std::runtime_error(path);
    }
    File(const File &) = delete;
    File &operator=(const File &) = delete;
    ~File() { ermfs_close(fd_); }

    void append(const std::string &text)
    {
        if (ermfs_write(fd_, text.data(), text.size()) != static_cast<ssize_t>(text.size()))
            throw std::runtime_error("write");
    }

    std::string all() const
    {
        struct stat status;
        if (ermfs_fstat(fd_, &status) != 0)
            throw std::runtime_error("fstat");
        std::string text(static_cast<std::size_t>(status.st_size), '\0');
        if (ermfs_pread(fd_, &text[0], text.size(), 0) != status.st_size)
            throw std::runtime_error("pread");
        return text;
    }

private:
    int fd_;
};

void in_a_thread(int number)
{
    const std::string path = "/of-" + std::to_string(number);
    const std::string text(100000, static_cast<char>('a' + number));
    File(path, O_CREAT | O_WRONLY).append(text);
    if (File(path, O_RDONLY).all() != text)
        std::terminate();
}

} // namespace

int main()
{
    try {
        std::vector<std::thread> threads;
        for (int number = 0; number < 4; number++)
            threads.emplace_back(in_a_thread, number);
        for (std::thread &thread : threads)
            thread.join();
        File("/nowhere/file", O_RDONLY);
    } catch (const std::runtime_error &error) {
        return std::strcmp(error.what(), "/nowhere/file") == 0 ? 0 : 1;
    }
    return 2;
}
