// Command netpol enforces NetworkPolicy on one node, as a stand-in.
//
// Clusters of these tests use the plain bridge plug-in, which ignores NetworkPolicy. This program watches pods,
// namespaces and policies, renders all of them into one nft table and swaps that table in one transaction. It is a
// stand-in, not a network plug-in: a pod is open for the moment between its start and the next swap, connections that
// are already open survive a new policy, and IPv6 is not looked at. It must run in the node's network namespace.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	// settle collects a burst of changes into one swap.
	settle = 50 * time.Millisecond
	// swapTimeout bounds one run of nft.
	swapTimeout = 10 * time.Second
)

func main() {
	log.SetFlags(log.LstdFlags | log.LUTC)
	kubeconfig := flag.String("kubeconfig", "", "credentials that may read pods, namespaces and network policies")
	flag.Parse()
	ctx, release := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer release()
	if err := run(ctx, *kubeconfig); err != nil {
		log.Fatalln("netpol:", err)
	}
}

func run(ctx context.Context, kubeconfig string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	factory := informers.NewSharedInformerFactory(client, 0)
	pods, namespaces, policies := factory.Core().V1().Pods(), factory.Core().V1().Namespaces(), factory.Networking().V1().NetworkPolicies()
	changed := make(chan struct{}, 1)
	notice := func(any) {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	handlers := cache.ResourceEventHandlerFuncs{AddFunc: notice, UpdateFunc: func(_, _ any) { notice(nil) }, DeleteFunc: notice}
	for _, informer := range []cache.SharedIndexInformer{pods.Informer(), namespaces.Informer(), policies.Informer()} {
		if _, err := informer.AddEventHandler(handlers); err != nil {
			return err
		}
	}
	factory.Start(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), pods.Informer().HasSynced, namespaces.Informer().HasSynced, policies.Informer().HasSynced) {
		return errors.New("stopped before the first list was complete")
	}
	var loaded []byte
	for {
		state, err := newSnapshot(pods.Lister(), namespaces.Lister(), policies.Lister())
		if err != nil {
			return err
		}
		if rules := state.render(); !bytes.Equal(rules, loaded) {
			if err := swap(ctx, rules); err != nil {
				// Going on would leave the old rules, or none, in force while everybody believes in the new ones.
				return err
			}
			loaded = rules
			log.Printf("netpol: %d policies in force", len(state.policies))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(settle):
		}
	}
}

// swap replaces the whole table in one transaction.
func swap(ctx context.Context, rules []byte) error {
	bounded, cancel := context.WithTimeout(ctx, swapTimeout)
	defer cancel()
	command := exec.CommandContext(bounded, "nft", "-f", "-")
	command.Stdin = bytes.NewReader(rules)
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("nft refused the rules: %w: %s", err, output)
	}
	return nil
}
