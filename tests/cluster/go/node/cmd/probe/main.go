// Command probe is what tests run inside pods: a server to reach and the tools to reach it with.
//
// It is static, so that it works in an image that holds nothing else, and each of its verbs ends with exit code 0 or 1,
// so that `kubectl exec` tells a test the answer. It must not retry: whether a thing works at this moment is the
// question, and the test asks it again until its own deadline.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"time"
)

// bodyLimit bounds what get prints, in bytes.
const bodyLimit = 1 << 20

const usage = `usage: probe VERB [OPTIONS] [ARGUMENTS]

  serve [-listen ADDRESS] [-answer TEXT]   answer every GET with TEXT and the pod's name, until SIGTERM
  get [-timeout D] URL                     print the body; fail unless the status is 2xx
  dial [-timeout D] HOST:PORT              fail unless a TCP connection opens
  lookup [-timeout D] NAME                 print the addresses of NAME, one a line
  write FILE TEXT                          replace FILE by TEXT, durably
  read FILE                                print FILE
`

func main() {
	if len(os.Args) < 2 {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "probe:", err)
		os.Exit(1)
	}
}

func run(verb string, arguments []string) error {
	flags := flag.NewFlagSet(verb, flag.ExitOnError)
	listen := flags.String("listen", ":8080", "address to listen on")
	answer := flags.String("answer", "ok", "text to answer with")
	timeout := flags.Duration("timeout", 3*time.Second, "longest wait")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), *timeout)
	defer cancel()
	switch {
	case verb == "serve" && flags.NArg() == 0:
		return serve(*listen, *answer)
	case verb == "get" && flags.NArg() == 1:
		return get(ctx, flags.Arg(0))
	case verb == "dial" && flags.NArg() == 1:
		return dial(ctx, flags.Arg(0))
	case verb == "lookup" && flags.NArg() == 1:
		return lookup(ctx, flags.Arg(0))
	case verb == "write" && flags.NArg() == 2:
		return write(flags.Arg(0), flags.Arg(1))
	case verb == "read" && flags.NArg() == 1:
		return read(flags.Arg(0))
	}
	return fmt.Errorf("unknown verb or wrong number of arguments\n%s", usage)
}

func serve(listen, answer string) error {
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	server := &http.Server{
		Addr:              listen,
		ReadHeaderTimeout: 5 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, "%s from %s\n", answer, name)
		}),
	}
	stop, release := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer release()
	failed := make(chan error, 1)
	go func() { failed <- server.ListenAndServe() }()
	select {
	case err := <-failed:
		return err
	case <-stop.Done():
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	return server.Shutdown(ctx)
}

func get(ctx context.Context, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if _, err := io.Copy(os.Stdout, io.LimitReader(response.Body, bodyLimit)); err != nil {
		return err
	}
	if response.StatusCode/100 != 2 {
		return fmt.Errorf("%s answered %s", url, response.Status)
	}
	return nil
}

func dial(ctx context.Context, address string) error {
	connection, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return connection.Close()
}

func lookup(ctx context.Context, name string) error {
	// The resolver in Go alone, also where a libc is present: it reads the pod's resolv.conf and needs no library.
	resolver := &net.Resolver{PreferGo: true}
	addresses, err := resolver.LookupHost(ctx, name)
	if err != nil {
		return err
	}
	sort.Strings(addresses)
	fmt.Println(strings.Join(addresses, "\n"))
	return nil
}

func write(path, text string) (err error) {
	file, err := os.CreateTemp(filepath.Dir(path), ".probe-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(file.Name()))
		}
	}()
	if _, err = file.WriteString(text); err != nil {
		return errors.Join(err, file.Close())
	}
	if err = errors.Join(file.Sync(), file.Close()); err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}

func read(path string) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(content)
	return err
}
