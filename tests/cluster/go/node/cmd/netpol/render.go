package main

import (
	"bytes"
	"fmt"
	"net/netip"
	"sort"
	"strings"

	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	corelisters "k8s.io/client-go/listers/core/v1"
	networkinglisters "k8s.io/client-go/listers/networking/v1"
)

// snapshot is what one rendering is made from, each list in a fixed order so that equal states render equally.
type snapshot struct {
	pods       []*core.Pod
	namespaces map[string]labels.Set
	policies   []*networking.NetworkPolicy
}

func newSnapshot(
	pods corelisters.PodLister, namespaces corelisters.NamespaceLister, policies networkinglisters.NetworkPolicyLister,
) (*snapshot, error) {
	allPods, err := pods.List(labels.Everything())
	if err != nil {
		return nil, err
	}
	allNamespaces, err := namespaces.List(labels.Everything())
	if err != nil {
		return nil, err
	}
	allPolicies, err := policies.List(labels.Everything())
	if err != nil {
		return nil, err
	}
	s := &snapshot{namespaces: map[string]labels.Set{}, policies: allPolicies}
	for _, pod := range allPods {
		if hasOwnAddress(pod) {
			s.pods = append(s.pods, pod)
		}
	}
	for _, namespace := range allNamespaces {
		s.namespaces[namespace.Name] = namespace.Labels
	}
	sort.Slice(s.pods, func(i, j int) bool { return s.pods[i].Status.PodIP < s.pods[j].Status.PodIP })
	sort.Slice(s.policies, func(i, j int) bool {
		a, b := s.policies[i], s.policies[j]
		return a.Namespace+"/"+a.Name < b.Namespace+"/"+b.Name
	})
	return s, nil
}

// hasOwnAddress tells whether policies can speak of the pod: it has an address of its own and has not ended (the
// address of an ended pod may belong to another one).
func hasOwnAddress(pod *core.Pod) bool {
	address, err := netip.ParseAddr(pod.Status.PodIP)
	ended := pod.Status.Phase == core.PodSucceeded || pod.Status.Phase == core.PodFailed
	return err == nil && address.Is4() && !pod.Spec.HostNetwork && !ended
}

// render returns the nft script that replaces the table.
//
// A pod named by any policy of a direction is isolated in it: what no rule of that direction lets through is dropped.
// A packet between two isolated pods needs both: the egress chain returns to the caller, which asks the ingress chain.
// The hooks come after kube-proxy's translation (priority -5), so that a Service is matched as the pods behind it, and
// `output` is left alone: a node may always reach its own pods, or probes would fail.
func (s *snapshot) render() []byte {
	egressPods, egressRules := s.direction(networking.PolicyTypeEgress)
	ingressPods, ingressRules := s.direction(networking.PolicyTypeIngress)
	var out bytes.Buffer
	fmt.Fprintln(&out, "table ip fairlead-netpol {}\ndelete table ip fairlead-netpol\ntable ip fairlead-netpol {")
	writeChain(&out, "egress", egressRules)
	writeChain(&out, "ingress", ingressRules)
	judge := []string{"ct state established,related return"}
	if len(egressPods) > 0 {
		judge = append(judge, "ip saddr "+set(egressPods)+" jump egress")
	}
	if len(ingressPods) > 0 {
		judge = append(judge, "ip daddr "+set(ingressPods)+" jump ingress")
	}
	writeChain(&out, "judge", judge)
	writeChain(&out, "forward", []string{"type filter hook forward priority -5; policy accept;", "jump judge"})
	writeChain(&out, "input", []string{"type filter hook input priority -5; policy accept;", "jump judge"})
	fmt.Fprintln(&out, "}")
	return out.Bytes()
}

func writeChain(out *bytes.Buffer, name string, rules []string) {
	fmt.Fprintf(out, "  chain %s {\n", name)
	for _, rule := range rules {
		fmt.Fprintf(out, "    %s\n", rule)
	}
	fmt.Fprintln(out, "  }")
}

// direction returns the pods isolated in one direction and the rules of its chain, the last of which drops.
func (s *snapshot) direction(direction networking.PolicyType) (isolated, rules []string) {
	seen := map[string]bool{}
	for _, policy := range s.policies {
		if !applies(policy, direction) {
			continue
		}
		selected := s.podsIn(policy.Namespace, &policy.Spec.PodSelector)
		for _, pod := range selected {
			if !seen[pod.Status.PodIP] {
				seen[pod.Status.PodIP] = true
				isolated = append(isolated, pod.Status.PodIP)
			}
		}
		if len(selected) == 0 {
			continue
		}
		if direction == networking.PolicyTypeIngress {
			for _, rule := range policy.Spec.Ingress {
				sources := s.peers(policy.Namespace, rule.From)
				rules = append(rules, allow(sources.matches("saddr"), "daddr", target{pods: selected}, rule.Ports)...)
			}
			continue
		}
		own := "ip saddr " + set(addresses(selected))
		for _, rule := range policy.Spec.Egress {
			rules = append(rules, s.allowEgress(own, s.peers(policy.Namespace, rule.To), rule.Ports)...)
		}
	}
	sort.Strings(isolated)
	return isolated, append(rules, "drop")
}

func (s *snapshot) allowEgress(own string, to peers, ports []networking.NetworkPolicyPort) []string {
	var rules []string
	if to.anybody {
		// A named port needs to know whose name it is: that of any pod.
		rules = append(rules, allow([]string{own}, "daddr", target{anybody: true, pods: s.pods}, ports)...)
	}
	if len(to.pods) > 0 {
		rules = append(rules, allow([]string{own}, "daddr", target{pods: to.pods}, ports)...)
	}
	for _, block := range to.blocks {
		rules = append(rules, allow([]string{own + " " + block.matches("daddr")}, "daddr", target{anybody: true}, ports)...)
	}
	return rules
}

// applies tells whether a policy isolates its pods in a direction; without types it is ingress, and egress where it
// has egress rules.
func applies(policy *networking.NetworkPolicy, direction networking.PolicyType) bool {
	if len(policy.Spec.PolicyTypes) == 0 {
		return direction == networking.PolicyTypeIngress || len(policy.Spec.Egress) > 0
	}
	for _, each := range policy.Spec.PolicyTypes {
		if each == direction {
			return true
		}
	}
	return false
}

// target is the receiving end of a rule: its pods, or anybody, where pods serve to resolve named ports alone.
type target struct {
	anybody bool
	pods    []*core.Pod
}

// allow renders one rule of a policy: each source match, to the target, on each port (none means all).
func allow(sources []string, field string, to target, ports []networking.NetworkPolicyPort) []string {
	var ends []string
	whole := ""
	if !to.anybody {
		whole = "ip " + field + " " + set(addresses(to.pods)) + " "
	}
	if len(ports) == 0 {
		ends = append(ends, whole)
	}
	for _, port := range ports {
		protocol := "tcp"
		if port.Protocol != nil {
			protocol = strings.ToLower(string(*port.Protocol))
		}
		switch {
		case port.Port == nil:
			ends = append(ends, whole+"meta l4proto "+protocol+" ")
		case port.Port.Type == intstr.Int && port.EndPort != nil:
			ends = append(ends, fmt.Sprintf("%s%s dport %d-%d ", whole, protocol, port.Port.IntVal, *port.EndPort))
		case port.Port.Type == intstr.Int:
			ends = append(ends, fmt.Sprintf("%s%s dport %d ", whole, protocol, port.Port.IntVal))
		default:
			ends = append(ends, namedPort(to.pods, field, protocol, port.Port.StrVal)...)
		}
	}
	var rules []string
	for _, source := range sources {
		for _, end := range ends {
			rules = append(rules, strings.TrimSpace(source+" "+end+"return"))
		}
	}
	return rules
}

// namedPort matches, pod by pod, the number that the name stands for in that pod.
func namedPort(pods []*core.Pod, field, protocol, name string) []string {
	var ends []string
	for _, pod := range pods {
		for _, container := range pod.Spec.Containers {
			for _, port := range container.Ports {
				same := port.Protocol == "" && protocol == "tcp" || strings.EqualFold(string(port.Protocol), protocol)
				if port.Name == name && same {
					ends = append(ends, fmt.Sprintf("ip %s %s %s dport %d ", field, pod.Status.PodIP, protocol, port.ContainerPort))
				}
			}
		}
	}
	return ends
}

// peers is the far end of a rule.
type peers struct {
	anybody bool
	pods    []*core.Pod
	blocks  []block
}

// block is a range of addresses with holes.
type block struct{ networking.IPBlock }

func (b block) matches(field string) string {
	match := "ip " + field + " " + b.CIDR
	if len(b.Except) > 0 {
		match += " ip " + field + " != " + set(b.Except)
	}
	return match
}

// matches renders the peers as sources, one match each; none means nobody, "" anybody.
func (p peers) matches(field string) []string {
	var out []string
	if p.anybody {
		out = append(out, "")
	}
	if len(p.pods) > 0 {
		out = append(out, "ip "+field+" "+set(addresses(p.pods)))
	}
	for _, each := range p.blocks {
		out = append(out, each.matches(field))
	}
	return out
}

func (s *snapshot) peers(namespace string, list []networking.NetworkPolicyPeer) peers {
	if len(list) == 0 {
		return peers{anybody: true}
	}
	var out peers
	for _, peer := range list {
		switch {
		case peer.IPBlock != nil:
			if strings.Contains(peer.IPBlock.CIDR, ".") {
				out.blocks = append(out.blocks, block{*peer.IPBlock})
			}
		case peer.NamespaceSelector == nil:
			out.pods = append(out.pods, s.podsIn(namespace, peer.PodSelector)...)
		default:
			selector := peer.PodSelector
			if selector == nil {
				selector = &meta.LabelSelector{}
			}
			for _, name := range s.namespacesLike(peer.NamespaceSelector) {
				out.pods = append(out.pods, s.podsIn(name, selector)...)
			}
		}
	}
	return out
}

func (s *snapshot) namespacesLike(selector *meta.LabelSelector) []string {
	matcher, err := meta.LabelSelectorAsSelector(selector)
	if err != nil {
		return nil // the API server refuses such a selector
	}
	var names []string
	for name, set := range s.namespaces {
		if matcher.Matches(set) {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	return names
}

func (s *snapshot) podsIn(namespace string, selector *meta.LabelSelector) []*core.Pod {
	matcher, err := meta.LabelSelectorAsSelector(selector)
	if err != nil {
		return nil // the API server refuses such a selector
	}
	var found []*core.Pod
	for _, pod := range s.pods {
		if pod.Namespace == namespace && matcher.Matches(labels.Set(pod.Labels)) {
			found = append(found, pod)
		}
	}
	return found
}

func addresses(pods []*core.Pod) []string {
	unique := map[string]bool{}
	for _, pod := range pods {
		unique[pod.Status.PodIP] = true
	}
	out := make([]string, 0, len(unique))
	for address := range unique {
		out = append(out, address)
	}
	sort.Strings(out)
	return out
}

func set(members []string) string { return "{ " + strings.Join(members, ", ") + " }" }
